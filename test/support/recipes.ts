/** Recipes for tests: one that never changes, and random ones. */

import { type ChunkId, sha256Hex } from '../../src/base/digest.ts';
import { chunkSizeMaxBytes, sealedChunkSizeMaxBytes } from '../../src/base/limits.ts';
import { OwnerKey } from '../../src/keys/keys.ts';
import type { ChunkSegment, Recipe, RecipeDetails, Segment } from '../../src/recipe/recipe.ts';
import type { Random } from './random.ts';

export const ownerKey = new OwnerKey(Buffer.from(Array.from({ length: 32 }, (_, i) => i)));
export const otherKey = new OwnerKey(Buffer.alloc(32, 0xa5));

/** A chunk of bytes that nobody stored. */
export function fakeChunk(seed: string, plainSizeBytes: number): ChunkSegment {
  return {
    kind: 'chunk',
    id: sha256Hex(Buffer.from(`id ${seed}`)) as ChunkId,
    key: Buffer.from(sha256Hex(Buffer.from(`key ${seed}`)), 'hex'),
    plainSizeBytes,
    sealedSizeBytes: 1 + Math.floor(plainSizeBytes / 3),
  };
}

/** Three chunks, of which one twice, and a run of zeros beyond 4 GiB. */
export function fixedRecipe(): Recipe {
  const [a, b, c] = [fakeChunk('a', 65536), fakeChunk('b', 1048576), fakeChunk('c', 5)];
  const zeroRun: Segment = { kind: 'zero', plainSizeBytes: 5 * 2 ** 30 };
  return {
    diskSizeBytes: 65536 + 1048576 + 5 * 2 ** 30 + 65536 + 5,
    metadataSizeBytes: 4096,
    segments: [a!, b!, zeroRun, { ...a! }, c!],
    details: {
      kind: 'oci',
      manifestDigest: `sha256:${'12'.repeat(32)}`,
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
      configText: '{"config":{"Env":["NAME=Jürgen \u0000 \ud83d\udc33"]}}',
      inodeCount: 3,
      contentBytes: 1114117,
      pipeline: 'erofs-1 cdc-1 zstd-3',
      saltId: 'e28c883df82c4f8d40277fa3cec8954a',
    },
  };
}

export function randomRecipe(random: Random): Recipe {
  const chunks: ChunkSegment[] = Array.from({ length: random.below(30) }, () => ({
    kind: 'chunk',
    id: random.bytes(32).toString('hex') as ChunkId,
    key: random.bytes(32),
    plainSizeBytes: random.between(1, chunkSizeMaxBytes),
    sealedSizeBytes: random.between(1, sealedChunkSizeMaxBytes),
  }));
  const segments = Array.from({ length: random.below(60) }, (): Segment => {
    if (chunks.length > 0 && random.chance(0.8)) return random.pick(chunks);
    return { kind: 'zero', plainSizeBytes: random.between(1, 2 ** 31) };
  });
  const diskSizeBytes = segments.reduce((sum, segment) => sum + segment.plainSizeBytes, 0);
  const metadataSizeBytes = Math.min(diskSizeBytes, random.below(2 ** 20));
  return { diskSizeBytes, metadataSizeBytes, segments, details: randomDetails(random) };
}

function randomDetails(random: Random): RecipeDetails {
  const text = () => random.text(random.below(40), 'aZ09"\\\n\u0000\u0001ß€{}[]');
  return {
    kind: random.pick(['oci', 'disk']),
    ...(random.chance(0.5) && { manifestDigest: text() }),
    ...(random.chance(0.5) && { platform: { os: text(), architecture: text() } }),
    ...(random.chance(0.5) && { configText: text() }),
    ...(random.chance(0.5) && { inodeCount: random.u32() }),
    ...(random.chance(0.5) && { contentBytes: random.u32() * 2 ** 20 }),
    pipeline: text(),
    saltId: text(),
  };
}
