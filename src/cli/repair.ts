/** `verify --repair`: an image made whole again from its source. */

import type { RecipeId } from '../base/digest.ts';
import { type ErrorCode, ImgstoreError } from '../base/errors.ts';
import { noSuchName } from '../catalog/catalog.ts';
import type { DedupSalt } from '../keys/keys.ts';
import { ownerKeys } from '../keys/owner-keys.ts';
import { describeSalts, findDedupSalt } from '../keys/salts.ts';
import { openSource } from '../oci/source/open.ts';
import { type Broken, type RepairReport, type RepairSource, repairImage } from '../push/repair.ts';
import type { ImageReference } from '../recipe/name.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { formatBytes, formatCount } from './format.ts';
import { openForReading } from './open.ts';
import { reporter } from './push.ts';
import { describeCost, describeVerdict, Judge, type Judged } from './verdict.ts';

/** How a recipe cannot be read that a repair can make again. */
const lostCodes: ReadonlySet<ErrorCode> = new Set(['CORRUPT', 'LIMIT', 'IO']);

export async function repair(
  reference: ImageReference,
  from: string,
  context: CommandContext,
): Promise<CommandResult> {
  const opened = await openForReading(context);
  const judge = new Judge(opened, context);
  const record = await opened.catalog.record(reference, { signal: context.signal });
  if (record === undefined) throw noSuchName(reference);
  const before = await judge.image(reference);
  if (before.verdict.faults.length === 0) return result(judge, before);
  if (before.cause !== undefined && !lostCodes.has(before.cause.code)) throw before.cause;

  const { resolved } = before;
  const broken: Broken = { recipeId: record.recipeId, recipe: resolved };
  const source = await openRepairSource(from, context);
  let report: RepairReport;
  try {
    report = await repairImage(source, broken, {
      ...opened,
      name: record.name,
      salt: await saltOf(before, context),
      ownerKey: await ownerKeys({ ...keySource(context), create: false }).current(),
      brokenIn: async (recipe, root) => {
        context.progress.step('Looking for what is broken');
        const { faults } = await judge.recipe(recipe, root);
        return new Set(faults.flatMap(({ chunk }) => chunk ?? []));
      },
      now: context.now,
      onProgress: reporter(from, context),
      onWarning: message => context.log('warn', message),
      signal: context.signal,
    });
  } finally {
    if (source.kind === 'oci') await source.image.close();
  }
  const after = await judge.image(record.name);
  return result(judge, after, { before, report, recipeId: record.recipeId });
}

async function openRepairSource(from: string, context: CommandContext): Promise<RepairSource> {
  const path = /^disk:(.*)$/s.exec(from)?.[1];
  if (path !== undefined) return { kind: 'disk', reference: from, path };
  const { signal, env } = context;
  const image = await openSource(from, {
    signal,
    env,
    platform: context.option('platform'),
    plainHttp: context.flag('plain-http'),
  });
  return { kind: 'oci', reference: from, image };
}

/** The salt that the recipe names; that of the default domain if there is no recipe to read. */
async function saltOf({ resolved }: Judged, context: CommandContext): Promise<DedupSalt> {
  const keys = keySource(context);
  if (resolved !== undefined) return findDedupSalt(keys, resolved.recipe.details);
  const [salt] = await describeSalts(keys);
  if (salt?.domain === undefined && salt?.saltId !== undefined) {
    return findDedupSalt(keys, { saltId: salt.saltId });
  }
  throw new ImgstoreError('KEY', 'Cannot make the lost recipe again: no dedup salt is here', {
    hint: 'Copy the keys/dedup.salt of who pushed, or set IMGSTORE_SALT.',
  });
}

function keySource({ settings, env }: CommandContext) {
  return { directory: settings.keysDirectory, env };
}

interface Mended {
  before: Judged;
  report: RepairReport;
  /** What the name meant before. */
  recipeId: RecipeId;
}

function result({ cost }: Judge, { verdict }: Judged, mended?: Mended): CommandResult {
  const repaired = mended && {
    faults: mended.before.verdict.faults,
    putChunks: mended.report.putChunks,
    putBytes: mended.report.putBytes,
    putRecipe: mended.report.putRecipe,
    recipeBefore: mended.recipeId,
  };
  const lines = [
    ...(mended === undefined ? [] : describeRepair(mended)),
    ...describeVerdict(verdict),
    describeCost(cost),
  ];
  const image = repaired === undefined ? verdict : { ...verdict, repaired };
  return {
    data: { images: [image], ...cost },
    text: lines.join('\n'),
    exitStatus: verdict.faults.length === 0 ? 0 : 1,
  };
}

function describeRepair({ before, report, recipeId }: Mended): string[] {
  const put = `put ${formatCount(report.putChunks, 'chunk')}, ${formatBytes(report.putBytes)}`;
  const recipe = !report.putRecipe
    ? ''
    : report.recipeId === recipeId
      ? ', and the recipe'
      : `, and another recipe: the name means ${report.recipeId} now, not ${recipeId}`;
  const [was, ...faults] = describeVerdict(before.verdict);
  return [was!.replace(' is ', ' was '), ...faults, `Repaired: ${put}${recipe}`];
}
