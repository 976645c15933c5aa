/** `stats`: what the store holds, and what sharing saves. */

import type { Catalog } from '../catalog/catalog.ts';
import { sealedSizes } from '../recipe/recipe.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { type Command, type CommandResult, storeOption } from './command.ts';
import { formatBytes, formatFields, formatShare } from './format.ts';
import { openForReading } from './open.ts';

export const command: Command = {
  usage: '',
  summary: 'show what the store holds',
  description: `
Counts the objects of the store's active root, and compares what your images would take one by one
with what they take together.`,
  options: { ...storeOption },
  positionals: { min: 0, max: 0 },

  async run(context): Promise<CommandResult> {
    const { roots, catalog } = await openForReading(context);
    const root = await roots.active();
    const chunks = await total(root.chunks);
    const recipes = await total(root.recipes);
    const own = await ownImages(catalog, context.signal);
    const data = {
      store: context.settings.store,
      root: root.id,
      names: own.names,
      recipes: recipes.count,
      chunks: chunks.count,
      storedBytes: chunks.sizeBytes,
      recipeBytes: recipes.sizeBytes,
      diskBytes: own.diskBytes,
      storedBytesOneByOne: own.storedBytesOneByOne,
      storedBytesTogether: own.storedBytesTogether,
    };
    const saved = own.storedBytesOneByOne - own.storedBytesTogether;
    const text = formatFields([
      ['store', data.store],
      ['root', data.root],
      ['names', `${data.names}, of which ${own.readable} yours`],
      ['stored', `${formatBytes(data.storedBytes)} in ${data.chunks} chunks`],
      ['recipes', `${formatBytes(data.recipeBytes)} in ${data.recipes}`],
      ['your disks', formatBytes(own.diskBytes)],
      [
        'sharing',
        `saves ${formatBytes(saved)} (${formatShare(saved, own.storedBytesOneByOne)}) of what your ` +
          'images take one by one',
      ],
    ]);
    return { data, text };
  },
};

async function total(objects: ObjectStore): Promise<{ count: number; sizeBytes: number }> {
  const sum = { count: 0, sizeBytes: 0 };
  for await (const { sizeBytes } of objects.list('')) {
    sum.count++;
    sum.sizeBytes += sizeBytes;
  }
  return sum;
}

async function ownImages(catalog: Catalog, signal: AbortSignal) {
  const sum = { names: 0, readable: 0, diskBytes: 0, storedBytesOneByOne: 0 };
  const together = new Map<string, number>();
  const seen = new Set<string>();
  for await (const entry of catalog.list({ signal })) {
    sum.names++;
    if (entry.state !== 'readable') continue;
    sum.readable++;
    if (seen.has(entry.recipeId)) continue;
    seen.add(entry.recipeId);
    const resolved = await catalog.resolve(entry.name, { signal });
    if (resolved === undefined) continue;
    sum.diskBytes += resolved.recipe.diskSizeBytes;
    for (const [id, sizeBytes] of sealedSizes(resolved.recipe)) {
      sum.storedBytesOneByOne += sizeBytes;
      together.set(id, sizeBytes);
    }
  }
  let storedBytesTogether = 0;
  for (const sizeBytes of together.values()) storedBytesTogether += sizeBytes;
  return { ...sum, storedBytesTogether };
}
