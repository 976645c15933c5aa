/** The contract of ChunkSource, run against every implementation and wrapper by its own test. */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import { Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { type SealedChunk, sealedChunk, sealedChunks } from '../support/sealed-chunks.ts';

export interface SourceUnderTest {
  source: ChunkSource;
  /** Puts a chunk where this source will find it. */
  seed(chunk: SealedChunk): Promise<void>;
  /** Whether it keeps what is put. */
  keepsPuts: boolean;
  /** Whether it forgets a seeded chunk that is dropped. */
  forgetsSeeds: boolean;
}

/** Each call gives an empty source, closed and removed when the test ends. */
export type SourceFactory = (context: TestContext) => Promise<SourceUnderTest>;

/** A wrapper around a cache in memory whose answers are not verified. */
export function testWrapper(name: string, wrap: (source: ChunkSource) => ChunkSource): void {
  testChunkSource(name, async () => {
    const inner = new MemorySource('inner', { verified: false });
    const seed = async ({ id, sealed }: SealedChunk) => void inner.chunks.set(id, sealed);
    return { source: wrap(inner), seed, keepsPuts: true, forgetsSeeds: true };
  });
}

export function testChunkSource(name: string, create: SourceFactory): void {
  const random = new Random(1);

  test(`${name}: a chunk that it has, and one that it has not`, async context => {
    const { source, seed } = await create(context);
    for (const sizeBytes of [1, 4095, 4096, 4097, 300_000]) {
      const { id, sealed } = sealedChunk(random.bytes(sizeBytes));
      assert.equal(await source.get(id, { sizeBytes }), undefined);
      await seed({ id, sealed });
      const hit = await source.get(id, { sizeBytes });
      assertSameBytes(hit?.sealed, sealed);
      assert.equal(typeof hit?.tier, 'string');
    }
  });

  test(`${name}: a wrong size is absence or CORRUPT, and harms nobody else`, async context => {
    const { source, seed } = await create(context);
    const { id, sealed } = sealedChunk(random.bytes(5000));
    await seed({ id, sealed });
    for (const sizeBytes of [4999, 5001, 1, 100_000]) {
      const answer = await source.get(id, { sizeBytes }).catch((error: unknown) => error);
      const refused = answer instanceof ImgstoreError && answer.code === 'CORRUPT';
      assert.ok(answer === undefined || refused, `${sizeBytes} bytes: ${String(answer)}`);
    }
    assertSameBytes((await source.get(id, { sizeBytes: 5000 }))?.sealed, sealed);
  });

  test(`${name}: many gets at once, some for the same chunk`, async context => {
    const { source, seed } = await create(context);
    const chunks = sealedChunks(random, 20, 10_000);
    for (const chunk of chunks.slice(0, 15)) await seed(chunk);
    const asked = Array.from({ length: 200 }, () => random.below(chunks.length));
    const hits = await Promise.all(
      asked.map(i => source.get(chunks[i]!.id, { sizeBytes: 10_000 })),
    );
    for (const [n, i] of asked.entries()) {
      assertSameBytes(hits[n]?.sealed, i < 15 ? chunks[i]!.sealed : undefined);
    }
  });

  test(`${name}: a cache keeps and drops, the lowest tier does neither`, async context => {
    const { source, seed, keepsPuts, forgetsSeeds } = await create(context);
    const [kept, seeded] = sealedChunks(random, 2);
    const sizeBytes = 5000;
    await source.put(kept!.id, kept!.sealed);
    const hit = await source.get(kept!.id, { sizeBytes });
    assertSameBytes(hit?.sealed, keepsPuts ? kept!.sealed : undefined);
    await seed(seeded!);
    await source.drop(seeded!.id);
    await source.drop(kept!.id);
    assert.equal(await source.get(kept!.id, { sizeBytes }), undefined);
    assert.equal((await source.get(seeded!.id, { sizeBytes })) === undefined, forgetsSeeds);
    await source.put(kept!.id, kept!.sealed);
    assert.equal((await source.get(kept!.id, { sizeBytes })) !== undefined, keepsPuts);
  });

  test(`${name}: an aborted signal rejects with its reason`, async context => {
    const { source, seed } = await create(context);
    const { id, sealed } = sealedChunk(random.bytes(5000));
    await seed({ id, sealed });
    const reason = new Error('given up');
    const signal = AbortSignal.abort(reason);
    const isReason = (error: unknown) => error === reason;
    await assert.rejects(source.get(id, { sizeBytes: 5000, signal }), isReason);
    const open = new AbortController();
    const hit = await source.get(id, { sizeBytes: 5000, signal: open.signal });
    open.abort(reason);
    assertSameBytes(hit?.sealed, sealed);
  });

  test(`${name}: a prefetch is answered or shed, and one that is wanted is answered`, async context => {
    const { source, seed } = await create(context);
    const chunks = sealedChunks(random, 40, 10_000);
    for (const chunk of chunks) await seed(chunk);
    const prefetches = chunks.map(() => new Prefetch());
    const gets = chunks.map(({ id }, i) =>
      source.get(id, { sizeBytes: 10_000, prefetch: prefetches[i] }),
    );
    for (const [i, prefetch] of prefetches.entries()) if (i % 2 === 0) prefetch.want();
    const answers = await Promise.allSettled(gets);
    for (const [i, answer] of answers.entries()) {
      if (answer.status === 'fulfilled') assertSameBytes(answer.value?.sealed, chunks[i]!.sealed);
      else assert.ok(answer.reason instanceof PrefetchShed, String(answer.reason));
    }
    const wanted = new Prefetch();
    wanted.want();
    for (const { id, sealed } of chunks) {
      const hit = await source.get(id, { sizeBytes: 10_000, prefetch: wanted });
      assertSameBytes(hit?.sealed, sealed);
    }
  });

  test(`${name}: close waits for what was offered`, async context => {
    const { source } = await create(context);
    const offers = sealedChunks(random, 30, 20_000).map(({ id, sealed }) => source.put(id, sealed));
    let open = offers.length;
    for (const offer of offers) offer.then(() => open--);
    await source.close();
    assert.equal(open, 0);
  });
}
