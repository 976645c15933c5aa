/** How much of what a root, or a part of one, is. */

export interface Usage {
  chunks: number;
  chunkBytes: number;
  recipes: number;
  recipeBytes: number;
}

export function noUsage(): Usage {
  return { chunks: 0, chunkBytes: 0, recipes: 0, recipeBytes: 0 };
}

export function add(usage: Usage, kind: 'chunk' | 'recipe', sizeBytes: number): void {
  usage[`${kind}s`]++;
  usage[`${kind}Bytes`] += sizeBytes;
}

export function objectsOf({ chunks, recipes }: Usage): number {
  return chunks + recipes;
}

export function bytesOf({ chunkBytes, recipeBytes }: Usage): number {
  return chunkBytes + recipeBytes;
}
