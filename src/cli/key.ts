/** `key`: the keys of a home, under which recipes are sealed, and the secrets of dedup domains. */

import { ImgstoreError } from '../base/errors.ts';
import { rewrapStore } from '../catalog/rewrap.ts';
import { epochDaysMax } from '../keys/domain.ts';
import { createDomain, type DomainFile, rotateDomain } from '../keys/domain-files.ts';
import { isWrapped } from '../keys/key-file.ts';
import type { KeySource } from '../keys/key-source.ts';
import { keyIdPattern, type OwnerKey } from '../keys/keys.ts';
import {
  describeOwnerKey,
  generateOwnerKey,
  heldKeyIds,
  importOwnerKey,
  type KeyInfo,
} from '../keys/owner-files.ts';
import { keyNeeded, noOwnerKey, ownerKeyPath, ownerKeys } from '../keys/owner-keys.ts';
import { beginRotation, finishRotation, unfinishedRotation } from '../keys/rotation.ts';
import { describeSalts, type SaltInfo } from '../keys/salts.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  storeOption,
  usageError,
} from './command.ts';
import { formatCount, formatFields, formatTable } from './format.ts';
import { openForReading } from './open.ts';

type Verb = 'generate' | 'show' | 'rotate' | 'import';

export const command: Command = {
  usage: 'generate|show|rotate|import FILE',
  summary: "make, show, rotate or import owners' keys",
  description: `
Recipes are sealed under the owner's key; whoever loses it loses the images. The first push makes
one at keys/owner.key in the home, readable by its owner alone. IMGSTORE_KEY (64 hexadecimal
digits) takes its place. Keys in keys/owners open what others pushed, or what was pushed before a
rotation.

  generate      make a key; refused if there is one. With --domain, the secret of a dedup domain:
                pushes with the same --domain share chunks, and no others do. Other homes join it
                by copies of keys/domains/NAME.salt, and the default domain by keys/dedup.salt
  show          print ids, and where keys and salts are kept; never a secret
  rotate        take a new key into use, keep the old one in keys/owners, and re-wrap what the
                store has under it, without touching chunks. Killed, it goes on when run again.
                Do not push meanwhile. With --domain, begin a new secret for a dedup domain
  import FILE   keep a copy of another owner's key file in keys/owners

With --kms the secret is made by AWS KMS and kept wrapped by that key; region and credentials are as
the AWS SDK finds them. A rotation keeps to the KMS key of before unless it is given another.`,
  options: {
    ...storeOption,
    kms: { type: 'string', value: 'KEY', help: 'id, ARN or alias/NAME of a KMS key that wraps it' },
    domain: { type: 'string', value: 'NAME', help: 'of the dedup domain NAME: a-z, 0-9, -' },
    'epoch-days': { type: 'string', value: 'N', help: 'the domain has another salt every N days' },
    from: {
      type: 'string',
      value: 'ID',
      help: 'rotate: make no key, re-wrap what is still under that one',
    },
  },
  positionals: { min: 1, max: 2 },

  async run(context): Promise<CommandResult> {
    const verb = checkedVerb(context);
    const source = {
      directory: context.settings.keysDirectory,
      env: context.env,
      now: context.now,
    };
    const kmsKey = context.option('kms');
    const domain = context.option('domain');
    const epochDays = epochDaysOf(context);
    switch (verb) {
      case 'show':
        return show(source);
      case 'import':
        return reportKey(await importOwnerKey(source, context.positionals[1]!));
      case 'generate':
        if (domain === undefined) return reportKey(await generateOwnerKey({ ...source, kmsKey }));
        return generateDomain({ ...source, domain, epochDays, kmsKey });
      case 'rotate':
        if (domain === undefined) return rotate(source, context);
        return reportDomain(await rotateDomain({ ...source, domain, epochDays, kmsKey }));
    }
  },
};

/** Options that make no sense together are refused, not passed over. */
function checkedVerb({ positionals, option }: CommandContext): Verb {
  const [verb, file] = positionals;
  const see = 'See imgstore key --help';
  if (verb !== 'generate' && verb !== 'show' && verb !== 'rotate' && verb !== 'import') {
    throw usageError(
      `Cannot run key ${verb}: no such thing`,
      'Use generate, show, rotate or import FILE: see imgstore key --help',
    );
  }
  if ((verb === 'import') !== (file !== undefined)) {
    const state = verb === 'import' ? 'it takes a FILE' : 'it takes no FILE';
    throw usageError(`Cannot run key ${verb}: ${state}`, see);
  }
  const makes = verb === 'generate' || verb === 'rotate';
  const inDomain = makes && option('domain') !== undefined;
  const wrong = [
    ...(makes ? [] : ['kms', 'domain']),
    ...(inDomain ? [] : ['epoch-days']),
    ...(verb === 'rotate' && !inDomain ? [] : ['from']),
    ...(option('from') === undefined ? [] : ['kms']),
  ].find(name => option(name) !== undefined);
  if (wrong === undefined) return verb;
  const others = ['domain', 'from'].filter(name => name !== wrong && option(name) !== undefined);
  const given = [verb, ...others.map(name => `--${name}`)].join(' ');
  throw usageError(`Cannot use --${wrong} here: it does not go with key ${given}`, see);
}

function epochDaysOf({ option }: CommandContext): number | undefined {
  const text = option('epoch-days');
  if (text === undefined) return undefined;
  if (/^[1-9][0-9]{0,8}$/.test(text) && Number(text) <= epochDaysMax) return Number(text);
  throw usageError(
    `Cannot use --epoch-days ${JSON.stringify(text)}: it is not a number of days`,
    `Give 1 to ${epochDaysMax}`,
  );
}

async function generateDomain(options: Parameters<typeof createDomain>[0]): Promise<CommandResult> {
  const made = await createDomain(options);
  if (made !== undefined) return reportDomain(made);
  throw new ImgstoreError('BUSY', `Cannot make dedup domain ${options.domain}: it is there`, {
    hint: 'imgstore key rotate --domain begins a new secret for it.',
  });
}

async function show(source: KeySource & { now: () => Date }): Promise<CommandResult> {
  const [own, held, salts, rotation] = await Promise.all([
    describeOwnerKey(source),
    heldKeyIds(source),
    describeSalts(source),
    unfinishedRotation(source),
  ]);
  if (own === undefined && held.length === 0) throw noOwnerKey(ownerKeyPath(source.directory));
  const text = [
    formatFields([
      ...(own === undefined ? [] : keyFields(own)),
      ...(held.length === 0 ? [] : ([['others held', held.join(', ')]] as const)),
      ...(rotation === undefined ? [] : ([['rotation', describePlan(rotation)]] as const)),
    ]),
    ...(salts.length === 0 ? [] : ['', saltTable(salts)]),
    ...problems(salts),
  ].join('\n');
  return { data: { ...(own && keyData(own)), held, rotation, salts: salts.map(saltData) }, text };
}

function describePlan({ from, to }: { from: string; to: string }): string {
  return `not finished, from ${from} to ${to}: run imgstore key rotate`;
}

function saltTable(salts: readonly SaltInfo[]): string {
  const rows = salts.map(({ domain, saltId, epoch, epochDays, path, kmsKey }) => [
    domain ?? '(default)',
    saltId ?? 'cannot be opened',
    epoch === undefined ? '-' : `${epoch}, of ${epochDays} days`,
    `${path ?? 'IMGSTORE_SALT'}${kmsKey === undefined ? '' : `, wrapped by ${kmsKey}`}`,
  ]);
  return formatTable(['DEDUP DOMAIN', 'SALT', 'EPOCH', 'KEPT'], rows);
}

function problems(salts: readonly SaltInfo[]): string[] {
  const found = salts.flatMap(({ problem }) => problem ?? []);
  return found.length === 0 ? [] : ['', ...found];
}

function saltData({ created, ...salt }: SaltInfo) {
  return { ...salt, created: created?.toISOString() };
}

async function rotate(source: KeySource & { now: () => Date }, context: CommandContext) {
  const { log, signal, progress, option } = context;
  // Before any key is made: a store that is not there would leave the work half done.
  const { roots } = await openForReading(context);
  await roots.view();
  const earlier = option('from');
  const rotation =
    earlier === undefined
      ? await beginRotation({ ...source, kmsKey: option('kms') })
      : { ...(await keysFrom(source, earlier)), continued: false };
  progress.step(`Re-wrapping what key ${rotation.from.id} sealed`);
  const onProblem = (message: string) => log('warn', message);
  const done = await rewrapStore(roots, { ...rotation, onProblem, signal });
  if (earlier === undefined) await finishRotation(source, rotation);
  const { from, to, continued } = rotation;
  const text = formatFields([
    ['id', to.id],
    ['before', `${from.id}, kept`],
    ['re-wrapped', `${formatCount(done.recipes, 'recipe')}, ${formatCount(done.names, 'name')}`],
    ...(done.damaged === 0 ? [] : ([['damaged', `${done.damaged}, left as they are`]] as const)),
  ]);
  return { data: { id: to.id, before: from.id, continued, ...done }, text };
}

async function keysFrom(source: KeySource, id: string): Promise<{ from: OwnerKey; to: OwnerKey }> {
  if (!keyIdPattern.test(id)) {
    throw usageError(
      `Cannot use --from ${JSON.stringify(id)}: it is not the id of a key`,
      'imgstore key show prints ids: 32 hexadecimal digits',
    );
  }
  const keys = ownerKeys({ ...source, create: false });
  const to = await keys.current();
  const from = await keys.find(id);
  if (from === undefined) throw keyNeeded('Cannot re-wrap', id);
  if (from.id === to.id)
    throw usageError(`Cannot re-wrap from ${id}: it is the key in use`, 'Give an earlier one');
  return { from, to };
}

function keyFields({ id, path, created, kmsKey }: KeyInfo): (readonly [string, string])[] {
  return [
    ['id', id],
    ['kept', path ?? 'in the environment (IMGSTORE_KEY)'],
    ...(created === undefined ? [] : ([['created', created.toISOString()]] as const)),
    ...(kmsKey === undefined ? [] : ([['KMS key', kmsKey]] as const)),
  ];
}

function keyData({ created, ...key }: KeyInfo) {
  return { ...key, created: created?.toISOString() };
}

function reportKey(key: KeyInfo): CommandResult {
  return { data: keyData(key), text: formatFields(keyFields(key)) };
}

function reportDomain({ path, file: { domain, created, held } }: DomainFile): CommandResult {
  const kmsKey = isWrapped(held) ? held.keyArn : undefined;
  const data = { domain: domain.name, epochDays: domain.epochDays, path, kmsKey };
  const days = domain.epochDays;
  const text = formatFields([
    ['domain', domain.name],
    ['kept', path],
    ['created', created.toISOString()],
    ...(days === undefined ? [] : ([['epochs', `of ${days} days`]] as const)),
    ...(kmsKey === undefined ? [] : ([['KMS key', kmsKey]] as const)),
  ]);
  return { data: { ...data, created: created.toISOString() }, text };
}
