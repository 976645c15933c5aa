/**
 * `stats`: what the store holds, what of it no name needs, and what sharing saves; with --watch, what
 * the daemon does now.
 */

import { DigestSet } from '../base/digest-set.ts';
import { hasCode } from '../base/errors.ts';
import { inParallel } from '../base/in-parallel.ts';
import type { Catalog, CatalogEntry, NamedRecipe } from '../catalog/catalog.ts';
import { type RootUse, type Survey, survey } from '../gc/survey.ts';
import { bytesOf } from '../gc/usage.ts';
import { sealedSizes } from '../recipe/recipe.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  storeOption,
  usageError,
} from './command.ts';
import { formatBytes, formatCount, formatFields, formatShare, formatTable } from './format.ts';
import { openForReading } from './open.ts';

const readsAtOnce = 8;

export const command: Command = {
  usage: '',
  summary: 'show what the store holds and what gc would free, or with --watch what the daemon does',
  description: `
Counts the objects of each root and what of them no name needs, and compares what your images would
take one by one with what they take together. What imgstore gc would free are the objects that no
name needs, and second copies in roots on their way out; in a folder these are hard links, which
take no space.

With --watch it shows what the daemon of the home does instead, every second until Ctrl-C: for
memory and each tier how many chunks it is asked for, how many it has, how long a hit takes, and how
many it is being asked for now; what each mount reads; nodes of the shared cache that are not well,
and stores that do not answer. Where the output is no terminal, it is a line every time, and with
--json a document a line.`,
  options: {
    ...storeOption,
    watch: { type: 'boolean', help: 'show what the daemon does, until Ctrl-C' },
    interval: { type: 'string', value: 'SECONDS', help: 'with --watch: 0.1 to 3600; 1 by default' },
  },
  positionals: { min: 0, max: 0 },

  async run(context): Promise<CommandResult> {
    if (context.flag('watch')) return watchDaemon(context);
    if (context.option('interval') !== undefined) {
      throw usageError('Cannot use --interval: nothing is repeated', 'Use --watch with it.');
    }
    const { signal, settings, log } = context;
    const { roots, catalog } = await openForReading(context);
    const found = await survey(roots, { now: context.now(), signal });
    const own = await ownImages(catalog, signal);
    for (const { names, problem } of found.problems) log('warn', `${names.join(', ')}: ${problem}`);
    const [active] = found.roots;
    const data = {
      store: settings.store,
      root: active.id,
      names: found.names,
      recipes: active.holds.recipes,
      chunks: active.holds.chunks,
      storedBytes: active.holds.chunkBytes,
      recipeBytes: active.holds.recipeBytes,
      roots: found.roots,
      deletedRoots: found.deleted,
      liveBytes: bytesOf(found.live),
      ...freeable(found),
      problems: found.problems,
      diskBytes: own.diskBytes,
      storedBytesOneByOne: own.storedBytesOneByOne,
      storedBytesTogether: own.storedBytesTogether,
    };
    const saved = own.storedBytesOneByOne - own.storedBytesTogether;
    const fields = formatFields([
      ['store', data.store],
      ['names', `${data.names}, of which ${own.readable} yours`],
      ['needed', `${formatBytes(data.liveBytes)} in ${formatCount(found.live.chunks, 'chunk')}`],
      [
        'gc frees',
        `${formatBytes(data.garbageBytes)} that no name needs, ` +
          `${formatBytes(data.secondCopyBytes)} of second copies`,
      ],
      ['your disks', formatBytes(own.diskBytes)],
      [
        'sharing',
        `saves ${formatBytes(saved)} (${formatShare(saved, own.storedBytesOneByOne)}) of what your ` +
          'images take one by one',
      ],
    ]);
    return { data, text: `${fields}\n\n${rootsTable(found)}` };
  },
};

async function watchDaemon(context: CommandContext): Promise<CommandResult> {
  const text = context.option('interval') ?? '1';
  const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(seconds >= 0.1 && seconds <= 3600)) {
    throw usageError(
      `Cannot use --interval ${text}: it is no time`,
      'Give it 0.1 to 3600 seconds.',
    );
  }
  const { watch } = await import('./watch.ts');
  await watch(context, process.stdout, seconds * 1000);
  return {};
}

/** What would be gone once all is collected. */
function freeable({ roots, live }: Survey): { garbageBytes: number; secondCopyBytes: number } {
  const sum = (of: (root: RootUse) => number) => roots.reduce((total, root) => total + of(root), 0);
  const garbageBytes = sum(({ garbage }) => bytesOf(garbage));
  const awaitedBytes = sum(({ awaited }) => bytesOf(awaited));
  const all = sum(({ holds }) => bytesOf(holds));
  const secondCopyBytes = all - garbageBytes - awaitedBytes - bytesOf(live);
  return { garbageBytes, secondCopyBytes };
}

function rootsTable({ roots, deleted }: Survey): string {
  const header = ['ROOT', 'STATE', 'SINCE', 'CHUNKS', 'RECIPES', 'STORED', 'NOT NEEDED'];
  const rows = roots.map(({ id, state, since, alarmed, heldSince, holds, garbage }) => [
    id,
    [state, alarmed && 'alarm', heldSince && 'push'].filter(Boolean).join(', '),
    since.toISOString(),
    String(holds.chunks),
    String(holds.recipes),
    formatBytes(bytesOf(holds)),
    formatBytes(bytesOf(garbage)),
  ]);
  const gone = deleted.map(id => [id, 'being deleted', '', '', '', '', '']);
  return formatTable(header, [...rows, ...gone]);
}

/** Images that cannot be read are told by the survey, or belong to others. */
const unreadable = ['CORRUPT', 'UNSUPPORTED', 'LIMIT', 'KEY'] as const;

async function ownImages(catalog: Catalog, signal: AbortSignal) {
  const sum = { readable: 0, diskBytes: 0, storedBytesOneByOne: 0, storedBytesTogether: 0 };
  const together = new DigestSet();
  const images = distinctImages(catalog.list({ signal }), () => sum.readable++);
  const bounds = { atOnce: readsAtOnce, bytesMax: Infinity, bytesOf: () => 0, signal };
  await inParallel(images, bounds, async (entry, aborting) => {
    const image = await catalog.openRecord(entry, { signal: aborting }).catch((error: unknown) => {
      if (hasCode(error, unreadable)) return undefined;
      throw error;
    });
    if (image === undefined) return;
    sum.diskBytes += image.recipe.diskSizeBytes;
    for (const [id, sizeBytes] of sealedSizes(image.recipe)) {
      sum.storedBytesOneByOne += sizeBytes;
      if (together.add(id)) sum.storedBytesTogether += sizeBytes;
    }
  });
  return sum;
}

async function* distinctImages(
  entries: AsyncIterable<CatalogEntry>,
  onReadable: () => void,
): AsyncGenerator<NamedRecipe, void, undefined> {
  const seen = new DigestSet();
  for await (const entry of entries) {
    if (entry.state !== 'readable') continue;
    onReadable();
    if (seen.add(entry.recipeId)) yield entry;
  }
}
