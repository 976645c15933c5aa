import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseChunkId } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import {
  type ChunkTicket,
  ChunkUploader,
  type StoredChunk,
  type UploaderOptions,
} from '../../src/push/chunk-uploader.ts';
import { chunkIdOf, chunkKey, openChunk, sealChunk } from '../../src/seal/seal.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { manyBytes, salt } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { sealingHere } from '../support/sealing-here.ts';
import { until } from '../support/until.ts';
import { WatchedStore } from '../support/watched-store.ts';

const chunksInFlightMax = 3;

function uploaderOn(
  chunks: UploaderOptions['chunks'],
  options: Partial<UploaderOptions> = {},
): ChunkUploader {
  const known = new Map<string, StoredChunk>();
  return new ChunkUploader({
    sealer: sealingHere,
    chunks,
    salt: salt.bytes,
    known,
    chunksInFlightMax,
    rewrite: false,
    ...options,
  });
}

/** A store that answers a put when told to, and what it was asked. */
class HeldStore {
  readonly inner = new MemoryStore();
  readonly store = new WatchedStore(this.inner, (_call, work) => this.#put(work));
  /** Puts that have begun and not ended. */
  running = 0;
  runningMost = 0;
  puts = 0;
  readonly #held: (() => void)[] = [];

  async #put(work: () => Promise<unknown>): Promise<unknown> {
    this.puts++;
    this.runningMost = Math.max(this.runningMost, ++this.running);
    await new Promise<void>(resolve => this.#held.push(resolve));
    this.running--;
    return work();
  }

  async waitForPuts(count: number): Promise<void> {
    await until(() => this.puts >= count, `${count} puts`);
  }

  releaseOne(): void {
    this.#held.shift()?.();
  }
}

test('what is added is stored, once, and opens with its ticket', async () => {
  const store = new MemoryStore();
  const random = new Random(1);
  const plains = Array.from({ length: 10 }, () => manyBytes(random, random.between(1, 200_000)));
  const uploader = uploaderOn(store);
  const tickets: ChunkTicket[] = [];
  for (const plain of [...plains, ...plains]) {
    tickets.push(uploader.add(Buffer.from(plain)));
    await uploader.backlog;
  }
  await uploader.finish();
  assert.equal(uploader.newChunks, 10);
  assert.equal(store.objects.size, 10);
  let storedBytes = 0;
  for (const [i, plain] of plains.entries()) {
    assert.equal(tickets[i], tickets[i + 10], 'equal chunks have one ticket');
    const { stored, key } = tickets[i]!;
    assert.deepEqual(key, chunkKey(plain, salt.bytes));
    assert.ok(stored !== undefined);
    const { bytes } = store.objects.get(chunkObjectKey(stored.id))!;
    assert.equal(chunkIdOf(bytes), stored.id);
    assert.equal(bytes.length, stored.sealedSizeBytes);
    assert.ok((await openChunk(bytes, stored)).equals(plain));
    storedBytes += bytes.length;
  }
  assert.equal(uploader.newStoredBytes, storedBytes);
});

test('no more are under way than allowed, and the backlog is what waits', async () => {
  const held = new HeldStore();
  const uploader = uploaderOn(held.store);
  const random = new Random(2);
  for (let i = 0; i < chunksInFlightMax; i++) {
    uploader.add(manyBytes(random, 1000));
    assert.equal(uploader.backlog, undefined, 'there is a place');
  }
  uploader.add(manyBytes(random, 1000));
  uploader.add(manyBytes(random, 1000));
  const backlog = uploader.backlog;
  assert.ok(backlog !== undefined);
  let caughtUp = false;
  backlog.then(() => {
    caughtUp = true;
  });
  await held.waitForPuts(chunksInFlightMax);
  for (let i = 0; i < 10; i++) await nextTurn();
  assert.equal(held.puts, chunksInFlightMax, 'the others wait');
  held.releaseOne();
  await held.waitForPuts(chunksInFlightMax + 1);
  assert.equal(caughtUp, false, 'one of two still waits');
  assert.equal(uploader.backlog, backlog);
  held.releaseOne();
  await backlog;
  assert.equal(uploader.backlog, undefined);
  await held.waitForPuts(chunksInFlightMax + 2);
  const finished = uploader.finish();
  await until(() => {
    held.releaseOne();
    return held.inner.objects.size === 5;
  }, 'all are stored');
  await finished;
  assert.equal(held.runningMost, chunksInFlightMax);
});

test('finish waits for what still waits for a place', async () => {
  const held = new HeldStore();
  const uploader = uploaderOn(held.store);
  const random = new Random(3);
  const tickets = Array.from({ length: 9 }, () => uploader.add(manyBytes(random, 1000)));
  let finished = false;
  const finish = uploader.finish().then(() => {
    finished = true;
  });
  for (let released = 0; released < 9; released++) {
    await held.waitForPuts(Math.min(9, released + 1));
    assert.equal(finished, false);
    held.releaseOne();
  }
  await finish;
  assert.ok(tickets.every(ticket => ticket.stored !== undefined));
});

test('known chunks are neither sealed nor put', async () => {
  const store = new MemoryStore();
  const [known, other] = [manyBytes(new Random(4), 5000), manyBytes(new Random(5), 5000)];
  const stored: StoredChunk = {
    id: parseChunkId('ab'.repeat(32)),
    key: chunkKey(known, salt.bytes),
    plainSizeBytes: known.length,
    sealedSizeBytes: 77,
  };
  const uploader = uploaderOn(store, { known: new Map([[stored.key.toString('hex'), stored]]) });
  assert.equal(uploader.add(known).stored, stored);
  uploader.add(other);
  await uploader.finish();
  assert.equal(store.objects.size, 1);
  assert.equal(uploader.newChunks, 1);
});

test('what the store has is not new, unless all is rewritten', async () => {
  const store = new MemoryStore();
  const plain = manyBytes(new Random(6), 5000);
  const { id, sealed } = await sealChunk(plain, chunkKey(plain, salt.bytes));
  const damaged = Buffer.from(sealed).fill(0, 5, 10);
  store.objects.set(chunkObjectKey(id), { bytes: damaged, modified: new Date() });
  const again = uploaderOn(store);
  again.add(Buffer.from(plain));
  await again.finish();
  assert.equal(again.newChunks, 0);
  assert.equal(again.newStoredBytes, 0);
  const rewriting = uploaderOn(store, { rewrite: true });
  rewriting.add(Buffer.from(plain));
  await rewriting.finish();
  assert.equal(rewriting.newChunks, 1);
  assert.ok(store.objects.get(chunkObjectKey(id))!.bytes.equals(sealed));
});

test('the first fault ends it: later calls throw it, and nothing new begins', async () => {
  let puts = 0;
  const faults: Error[] = [];
  const store = new WatchedStore(new MemoryStore(), async () => {
    await nextTurn();
    faults.push(new ImgstoreError('IO', `Cannot put: fault ${++puts}`));
    throw faults.at(-1);
  });
  const uploader = uploaderOn(store);
  const random = new Random(7);
  for (let i = 0; i < 20; i++) uploader.add(manyBytes(random, 1000));
  const isFirst = (error: unknown) => error === faults[0];
  await assert.rejects(uploader.finish(), isFirst);
  assert.ok(puts <= chunksInFlightMax, `${puts} puts`);
  assert.throws(() => uploader.add(manyBytes(random, 1000)), isFirst);
  await assert.rejects(uploader.finish(), isFirst);
  assert.equal(uploader.backlog, undefined, 'nobody waits for ever');
  await uploader[Symbol.asyncDispose]();
});

test('a fault while the caller waits for the backlog shows at its next call', async () => {
  const store = new WatchedStore(new MemoryStore(), async () => {
    throw new ImgstoreError('UNAVAILABLE', 'Cannot put: gone');
  });
  const uploader = uploaderOn(store);
  const random = new Random(8);
  const addAll = async () => {
    for (let i = 0; i < 1000; i++) {
      uploader.add(manyBytes(random, 1000));
      await uploader.backlog;
    }
  };
  await assert.rejects(addAll(), { code: 'UNAVAILABLE' });
});

test('abort: add throws the reason, puts get the signal, what waits never begins', async () => {
  const reason = new ImgstoreError('IO', 'Stopped');
  const controller = new AbortController();
  const held = new HeldStore();
  const uploader = uploaderOn(held.store, { signal: controller.signal });
  const random = new Random(9);
  for (let i = 0; i < 8; i++) uploader.add(manyBytes(random, 1000));
  await held.waitForPuts(chunksInFlightMax);
  controller.abort(reason);
  assert.throws(() => uploader.add(manyBytes(random, 1000)), reason);
  for (let i = 0; i < chunksInFlightMax; i++) held.releaseOne();
  await assert.rejects(uploader.finish(), reason);
  assert.equal(held.puts, chunksInFlightMax);
  assert.equal(held.inner.objects.size, 0, 'the store saw the signal');
});

test('disposed of, it waits for what is under way and gives up the rest', async () => {
  const held = new HeldStore();
  const uploader = uploaderOn(held.store);
  const random = new Random(10);
  for (let i = 0; i < 8; i++) uploader.add(manyBytes(random, 1000));
  await held.waitForPuts(chunksInFlightMax);
  let disposed = false;
  const disposal = uploader[Symbol.asyncDispose]().then(() => {
    disposed = true;
  });
  for (let i = 0; i < 10; i++) await nextTurn();
  assert.equal(disposed, false);
  for (let i = 0; i < chunksInFlightMax; i++) held.releaseOne();
  await until(() => disposed, 'disposed of');
  await disposal;
  assert.equal(held.puts, chunksInFlightMax);
  assert.throws(() => uploader.add(manyBytes(random, 1000)), /over/);
});

test('chunks that need not be stored are found by their key', async () => {
  const store = new MemoryStore();
  const random = new Random(77);
  const plain = manyBytes(random, 10_000);
  const key = chunkKey(plain, salt.bytes);
  const { id, sealed } = sealChunk(plain, key);
  const knownChunk = { id, key, plainSizeBytes: plain.length, sealedSizeBytes: sealed.length };
  await using uploader = uploaderOn(store, {
    known: new Map([[key.toString('hex'), knownChunk]]),
  });
  const recalled = uploader.recall(Buffer.from(key));
  assert.deepEqual(recalled?.stored, knownChunk);
  assert.equal(recalled.key, key, 'the key of the recipe, not the one that was asked with');
  assert.equal(uploader.add(plain), recalled);
  const other = manyBytes(random, 500);
  const otherKey = chunkKey(other, salt.bytes);
  assert.equal(uploader.recall(otherKey), undefined);
  const added = uploader.add(other);
  assert.equal(uploader.recall(otherKey), added);
  await uploader.finish();
  assert.equal(store.objects.size, 1);
});
