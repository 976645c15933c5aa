import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheWritesPendingMaxBytes, diskCacheSizeMinBytes } from '../../src/base/limits.ts';
import { DiskCache, type DiskCacheOptions } from '../../src/cache/disk-cache.ts';
import { testChunkSource } from '../contract/chunk-source.ts';
import { isFault } from '../contract/object-store.ts';
import { FaultyFolder } from '../support/faulty-folder.ts';
import { waitUntil } from '../support/poll.ts';
import { runChecked, startCommand } from '../support/processes.ts';
import { Random } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { type SealedChunk, sealedChunks } from '../support/sealed-chunks.ts';
import {
  mountReadOnly,
  mountTmpfs,
  temporaryFolder,
  unmount,
} from '../support/temporary-folder.ts';

const sizeMaxBytes = diskCacheSizeMinBytes;
const hourMs = 60 * 60 * 1000;

interface OpenedCache {
  cache: DiskCache;
  lines: string[];
}

async function openCache(
  context: TestContext,
  folder: string,
  options: Partial<DiskCacheOptions> = {},
): Promise<OpenedCache> {
  const lines: string[] = [];
  const log = (level: string, message: string) => void lines.push(`${level} ${message}`);
  const cache = new DiskCache({ folder, sizeMaxBytes, log, ...options });
  context.after(() => cache.close());
  await cache.ready;
  return { cache, lines };
}

function fileOf(folder: string, { id }: SealedChunk): string {
  return join(folder, 'v1', id.slice(0, 2), id);
}

async function has(cache: DiskCache, { id, sealed }: SealedChunk): Promise<boolean> {
  const hit = await cache.get(id, { sizeBytes: sealed.length });
  if (hit !== undefined) assertSameBytes(hit.sealed, sealed);
  return hit !== undefined;
}

async function keep(cache: DiskCache, chunks: readonly SealedChunk[]): Promise<void> {
  for (const { id, sealed } of chunks) await cache.put(id, sealed);
}

testChunkSource('disk cache', async context => {
  const { cache } = await openCache(context, temporaryFolder(context));
  const seed = ({ id, sealed }: SealedChunk) => cache.put(id, sealed);
  return { source: cache, seed, keepsPuts: true, forgetsSeeds: true };
});

test('chunks survive a restart; copies from the disk are not called verified', async context => {
  const folder = temporaryFolder(context);
  const chunks = sealedChunks(new Random(1), 40);
  const first = await openCache(context, folder);
  await keep(first.cache, chunks);
  await first.cache.close();
  const { cache } = await openCache(context, folder);
  assert.deepEqual(cache.stats(), {
    entries: 40,
    bytes: 40 * 8192,
    sizeMaxBytes,
    declined: 0,
    evicted: 0,
    scanning: false,
    failing: false,
  });
  for (const { id, sealed } of chunks) {
    const hit = await cache.get(id, { sizeBytes: sealed.length });
    assert.deepEqual([hit?.tier, hit?.verified], ['l1', false]);
    assertSameBytes(hit?.sealed, sealed);
  }
});

test('while it scans, what is there is read, and offers are taken', async context => {
  const folder = temporaryFolder(context);
  const [kept, offered] = sealedChunks(new Random(1), 2);
  const first = await openCache(context, folder);
  await keep(first.cache, [kept!]);
  await first.cache.close();
  const cache = new DiskCache({ folder, sizeMaxBytes, log: () => {} });
  context.after(() => cache.close());
  const put = cache.put(offered!.id, offered!.sealed);
  assert.ok(cache.stats().scanning);
  assert.ok(await has(cache, kept!));
  await Promise.all([put, cache.ready]);
  assert.ok(await has(cache, offered!));
  assert.deepEqual([cache.stats().entries, cache.stats().declined], [2, 0]);
});

test('while it scans, offers of a sixteenth of the bound are taken and the rest declined', async context => {
  const folder = temporaryFolder(context);
  const chunks = sealedChunks(new Random(1), 60, 400_000);
  const first = await openCache(context, folder);
  await keep(first.cache, chunks);
  await first.cache.close();
  const cache = new DiskCache({ folder, sizeMaxBytes, log: () => {} });
  context.after(() => cache.close());
  const early = sealedChunks(new Random(2), 20, 100_000);
  const puts = early.map(({ id, sealed }) => cache.put(id, sealed));
  assert.ok(cache.stats().scanning);
  const taken = Math.floor(sizeMaxBytes / 16 / 100_000);
  assert.equal(cache.stats().declined, early.length - taken);
  // One is dropped again before it is known what else there is.
  await Promise.all([...puts.slice(0, 1), cache.drop(early[0]!.id)]);
  await Promise.all([...puts, cache.ready]);
  const there = await Promise.all(early.map(chunk => has(cache, chunk)));
  assert.deepEqual(
    there,
    early.map((_, n) => n > 0 && n < taken),
  );
  assert.ok(cache.stats().bytes <= sizeMaxBytes);
  assert.ok(cache.stats().evicted > 0, 'what was there before made room');
});

test('what was used before a restart outlives a burst of chunks that are not', async context => {
  const folder = temporaryFolder(context);
  const base = sealedChunks(new Random(1), 25, 400_000);
  const before = await openCache(context, folder);
  await keep(before.cache, base);
  for (const chunk of base) assert.ok(await has(before.cache, chunk));
  await before.cache.close();
  const { cache } = await openCache(context, folder);
  await keep(cache, sealedChunks(new Random(2), 120, 400_000));
  const there = await Promise.all(base.map(chunk => has(cache, chunk)));
  assert.deepEqual(there, new Array(base.length).fill(true));
  assert.ok(cache.stats().evicted > 80);
});

test('bytes on the disk stay within the bound, and the oldest go', async context => {
  const folder = temporaryFolder(context);
  const { cache } = await openCache(context, folder);
  const chunks = sealedChunks(new Random(1), 60, 400_000);
  await keep(cache, chunks);
  await cache.close();
  const { stdout } = await runChecked('du', ['-sB1', '--exclude=tmp', join(folder, 'v1')]);
  const folders = readdirSync(join(folder, 'v1')).length + 1;
  assert.ok(Number.parseInt(stdout, 10) <= sizeMaxBytes + folders * 4096, stdout);
  assert.ok(cache.stats().bytes > sizeMaxBytes * 0.9);
  assert.equal(cache.stats().evicted + cache.stats().entries, 60);
  const there = await Promise.all(chunks.map(chunk => has(cache, chunk)));
  assert.equal(there.indexOf(true), cache.stats().evicted, 'the first ones are gone');
});

test('a smaller bound holds after the restart, and what was used last stays', async context => {
  const folder = temporaryFolder(context);
  const chunks = sealedChunks(new Random(1), 60, 400_000);
  const large = await openCache(context, folder, { sizeMaxBytes: 4 * sizeMaxBytes });
  await keep(large.cache, chunks);
  await large.cache.close();
  const nowSeconds = Date.now() / 1000;
  for (const [n, chunk] of chunks.entries()) {
    const atSeconds = nowSeconds - 3600 * (n % 2 === 0 ? 100 + n : 2);
    utimesSync(fileOf(folder, chunk), atSeconds, atSeconds);
  }
  // 0 is by far the oldest, but it is read once more.
  const again = await openCache(context, folder, { sizeMaxBytes: 4 * sizeMaxBytes });
  assert.ok(await has(again.cache, chunks[0]!));
  await again.cache.close();
  const small = await openCache(context, folder);
  assert.ok(small.cache.stats().bytes <= sizeMaxBytes);
  assert.ok(await has(small.cache, chunks[0]!));
  const left = chunks.filter(chunk => existsSync(fileOf(folder, chunk)));
  assert.equal(left.length, small.cache.stats().entries);
  for (const [n, chunk] of chunks.entries())
    if (n % 2 === 1) assert.ok(left.includes(chunk), `${n}`);
});

test('the first use is noted, then one an hour', async context => {
  const folder = temporaryFolder(context);
  let nowMs = Date.now();
  const { cache } = await openCache(context, folder, { now: () => nowMs });
  const [chunk] = sealedChunks(new Random(1), 1);
  await keep(cache, [chunk!]);
  const file = fileOf(folder, chunk!);
  const noted = async () => {
    // Nobody waits for the note.
    await Promise.all([has(cache, chunk!), sleep(100)]);
    const { mtimeMs } = statSync(file);
    utimesSync(file, 1000, 1000);
    return mtimeMs === 1_000_000 ? undefined : mtimeMs;
  };
  // Half a second marks it as the time of a use.
  const asNoted = (ms: number) => Math.floor(ms / 1000) * 1000 + 500;
  assert.equal(await noted(), asNoted(nowMs));
  nowMs += hourMs - 1;
  assert.equal(await noted(), undefined);
  nowMs += 1;
  assert.equal(await noted(), asNoted(nowMs));
});

test('a torn file is absence, whatever its length, and is mended by the next offer', async context => {
  const folder = temporaryFolder(context);
  const chunks = sealedChunks(new Random(1), 4);
  const [empty, short, long, cutLater] = chunks;
  const first = await openCache(context, folder);
  await keep(first.cache, chunks);
  await first.cache.close();
  truncateSync(fileOf(folder, empty!), 0);
  truncateSync(fileOf(folder, short!), 4999);
  truncateSync(fileOf(folder, long!), 5001);
  const { cache } = await openCache(context, folder);
  truncateSync(fileOf(folder, cutLater!), 10);
  for (const chunk of chunks) assert.ok(!(await has(cache, chunk)));
  assert.ok(!existsSync(fileOf(folder, empty!)), 'of no possible size');
  await keep(cache, chunks);
  for (const chunk of chunks) assert.ok(await has(cache, chunk));
  assert.equal(cache.stats().entries, 4);
});

test('drop wins over a write under way', async context => {
  const folder = temporaryFolder(context);
  const { cache } = await openCache(context, folder);
  const chunks = sealedChunks(new Random(1), 20);
  const puts = chunks.map(({ id, sealed }) => cache.put(id, sealed));
  for (const chunk of chunks) assert.ok(await has(cache, chunk), 'read before it is on the disk');
  await Promise.all(chunks.map(({ id }) => cache.drop(id)));
  await Promise.all(puts);
  for (const chunk of chunks) {
    assert.ok(!(await has(cache, chunk)));
    assert.ok(!existsSync(fileOf(folder, chunk)));
  }
});

test('more offers than the queue holds are declined, not collected', async context => {
  const { cache } = await openCache(context, temporaryFolder(context), {
    sizeMaxBytes: 2 * cacheWritesPendingMaxBytes,
  });
  const large = sealedChunks(new Random(1), 1, 1024 * 1024)[0]!.sealed;
  const fitting = cacheWritesPendingMaxBytes / large.length;
  const ids = sealedChunks(new Random(2), fitting + 10, 8).map(({ id }) => id);
  await Promise.all(ids.map(id => cache.put(id, large)));
  assert.deepEqual([cache.stats().declined, cache.stats().entries], [10, fitting]);
});

test('a full disk: one warning, older chunks make room, and it recovers', async context => {
  const folder = temporaryFolder(context);
  await mountTmpfs(folder, 4 * 1024 * 1024);
  let nowMs = Date.now();
  const { cache, lines } = await openCache(context, folder, { now: () => nowMs });
  const chunks = sealedChunks(new Random(1), 100, 100_000);
  for (const chunk of chunks) {
    await keep(cache, [chunk]);
    nowMs += 5000;
  }
  const warnings = lines.filter(line => line.startsWith('warn'));
  assert.match(warnings[0]!, /Cannot write to the cache .*: no space left on the device/);
  assert.ok(cache.stats().declined > 0);
  assert.deepEqual(readdirSync(join(folder, 'v1', 'tmp')), []);
  const newest = await Promise.all(chunks.slice(-10).map(chunk => has(cache, chunk)));
  assert.ok(newest.filter(Boolean).length > 3, 'newer chunks took the place of older ones');
  // One of two in a row: the first may be what finds the disk full, and makes the room.
  for (const chunk of [chunks[0]!, chunks[1]!]) {
    nowMs += 60_000;
    await keep(cache, [chunk]);
  }
  assert.ok((await has(cache, chunks[0]!)) || (await has(cache, chunks[1]!)));
  const changes = lines.map(line => line.split(' ', 1)[0]);
  for (const [i, level] of changes.entries()) assert.equal(level, i % 2 === 0 ? 'warn' : 'info');
});

test('a read-only cache is read, with one warning', async context => {
  const folder = temporaryFolder(context);
  const [kept, ...others] = sealedChunks(new Random(1), 5);
  const first = await openCache(context, folder);
  await keep(first.cache, [kept!]);
  await first.cache.close();
  await mountReadOnly(folder);
  let nowMs = Date.now() + 2 * hourMs;
  const { cache, lines } = await openCache(context, folder, { now: () => nowMs });
  for (const other of others) {
    await keep(cache, [other]);
    nowMs += hourMs;
    assert.ok(await has(cache, kept!));
    assert.ok(!(await has(cache, other)));
  }
  await cache.drop(others[0]!.id);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /^warn Cannot write to the cache .*: the file system is read-only/);
});

test('a read-only cache with a torn file in it is read as well', async context => {
  const folder = temporaryFolder(context);
  const chunks = sealedChunks(new Random(1), 50);
  const first = await openCache(context, folder);
  await keep(first.cache, chunks);
  await first.cache.close();
  truncateSync(fileOf(folder, chunks[0]!), 0);
  await mountReadOnly(folder);
  const { cache, lines } = await openCache(context, folder);
  assert.equal(cache.stats().entries, 49);
  assert.ok(!(await has(cache, chunks[0]!)));
  for (const chunk of chunks.slice(1)) assert.ok(await has(cache, chunk));
  assert.equal(lines.length, 1);
});

test('a disk that is full time and again is told of once an hour', async context => {
  const folder = temporaryFolder(context);
  await mountTmpfs(folder, 4 * 1024 * 1024);
  let nowMs = Date.now();
  const { cache, lines } = await openCache(context, folder, { now: () => nowMs });
  for (let minute = 0; minute < 55; minute++) {
    await keep(cache, sealedChunks(new Random(minute), 20, 100_000));
    nowMs += 60_000;
  }
  const levels = () => lines.map(line => line.split(' ', 1)[0]);
  assert.deepEqual(levels(), ['warn', 'info']);
  nowMs += hourMs;
  for (let again = 0; again < 3; again++) {
    await keep(cache, sealedChunks(new Random(100 + again), 20, 100_000));
    nowMs += 60_000;
  }
  assert.deepEqual(levels(), ['warn', 'info', 'warn', 'info']);
});

test('a file that the disk cannot read any more is forgotten, and the next offer mends it', async context => {
  const folder = temporaryFolder(context);
  let nowMs = Date.now();
  const { cache } = await openCache(context, folder, { now: () => nowMs });
  const [chunk, other] = sealedChunks(new Random(1), 2);
  await keep(cache, [chunk!, other!]);
  // The first page of our own memory: EIO, as a bad sector is.
  await runChecked('mount', ['--bind', `/proc/${process.pid}/mem`, fileOf(folder, chunk!)]);
  await assert.rejects(has(cache, chunk!), isFault('IO', /Cannot read chunk/));
  await unmount(fileOf(folder, chunk!));
  // What is mounted cannot be removed, after which the cache pauses.
  nowMs += 60_000;
  assert.equal(cache.stats().entries, 1);
  await keep(cache, [chunk!]);
  assert.ok(await has(cache, chunk!));
  assert.ok(await has(cache, other!));
});

test('a disk that does not answer is given up after a second, then at once until it does', async context => {
  const folder = temporaryFolder(context);
  const disk = await FaultyFolder.start(join(folder, 'disk'), join(folder, 'cache'));
  try {
    const { cache } = await openCache(context, join(folder, 'cache'));
    const chunks = sealedChunks(new Random(1), 3);
    await keep(cache, chunks);
    disk.fault = { do: 'hang' };
    const silent = isFault('IO', /the disk has not answered for 1000 ms/);
    await assert.rejects(has(cache, chunks[0]!), silent);
    const startedMs = performance.now();
    for (let i = 0; i < 20; i++) await assert.rejects(has(cache, chunks[1]!), silent);
    assert.ok(performance.now() - startedMs < 700, 'twenty would take twenty seconds');
    disk.fault = undefined;
    const works = () => has(cache, chunks[2]!).catch(() => false);
    await waitUntil('the disk is asked again', works);
    for (const chunk of chunks) assert.ok(await has(cache, chunk));
  } finally {
    await disk.close();
  }
});

test('a cache whose folder cannot be made keeps nothing and fails nothing', async context => {
  const file = join(temporaryFolder(context), 'file');
  writeFileSync(file, 'x');
  const { cache, lines } = await openCache(context, join(file, 'cache'));
  const [chunk] = sealedChunks(new Random(1), 1);
  await keep(cache, [chunk!]);
  assert.ok(!(await has(cache, chunk!)));
  assert.equal(lines.length, 1);
});

test('a cache that is removed under the daemon keeps what comes from then on', async context => {
  const folder = temporaryFolder(context);
  const { cache, lines } = await openCache(context, folder);
  const [before, after] = sealedChunks(new Random(21), 2);
  await keep(cache, [before!]);
  rmSync(join(folder, 'v1'), { recursive: true });
  assert.equal(await has(cache, before!), false);
  await keep(cache, [before!, after!]);
  assert.ok((await has(cache, before!)) && (await has(cache, after!)));
  assert.ok(existsSync(fileOf(folder, after!)));
  assert.deepEqual(lines, []);
});

test('a fault of a read names the chunk and is a fault, not absence', async context => {
  const folder = temporaryFolder(context);
  const { cache } = await openCache(context, folder);
  const [chunk] = sealedChunks(new Random(1), 1);
  await keep(cache, [chunk!]);
  rmSync(fileOf(folder, chunk!));
  mkdirSync(fileOf(folder, chunk!));
  const named = isFault('IO', new RegExp(`Cannot read chunk ${chunk!.id} from the cache`));
  await assert.rejects(cache.get(chunk!.id, { sizeBytes: 5000 }), named);
});

test('foreign files are left alone, and what a killed writer left goes after a day', async context => {
  const folder = temporaryFolder(context);
  const [chunk] = sealedChunks(new Random(1), 1);
  const misplaced = join(folder, 'v1', 'zz', chunk!.id);
  const foreign = [join(folder, 'notes'), join(folder, 'v1', 'x'), misplaced];
  mkdirSync(join(folder, 'v1', 'zz'), { recursive: true });
  mkdirSync(join(folder, 'v1', 'tmp'));
  for (const file of foreign) writeFileSync(file, 'x');
  writeFileSync(join(folder, 'v1', 'tmp', 'left'), 'x');
  utimesSync(join(folder, 'v1', 'tmp', 'left'), 1000, 1000);
  const { cache } = await openCache(context, folder);
  assert.equal(cache.stats().entries, 0);
  for (const file of foreign) assert.ok(existsSync(file));
  assert.deepEqual(readdirSync(join(folder, 'v1', 'tmp')), []);
});

test('two processes in one folder, killed with SIGKILL, damage nothing', async context => {
  const folder = temporaryFolder(context);
  const program = join(import.meta.dirname, 'cache-process.ts');
  const chunks = sealedChunks(new Random(7), 300, 100_000);
  for (let round = 0; round < 3; round++) {
    const running = [1, 2].map(n =>
      startCommand(process.execPath, [program, folder, `${2 * round + n}`]),
    );
    await Promise.all(running.map(({ child }) => once(child.stdout!, 'data')));
    await sleep(50);
    for (const { child } of running) child.kill('SIGKILL');
    for (const { result } of running) {
      const { signal, stdout } = await result;
      assert.equal(signal, 'SIGKILL');
      assert.ok(!stdout.includes('WRONG'));
    }
    const { cache } = await openCache(context, folder);
    assert.ok(cache.stats().bytes <= sizeMaxBytes);
    let hits = 0;
    for (const chunk of chunks) if (await has(cache, chunk)) hits++;
    assert.equal(hits, cache.stats().entries);
    assert.ok(hits > 10);
    await cache.close();
  }
});

test('the folder is for its owner only', async context => {
  const folder = temporaryFolder(context);
  chmodSync(folder, 0o755);
  const { cache } = await openCache(context, join(folder, 'cache'));
  await keep(cache, sealedChunks(new Random(1), 1));
  assert.equal(statSync(join(folder, 'cache')).mode & 0o7777, 0o700);
});

test('a bound that is too small, or none, is refused', () => {
  for (const bytes of [0, -1, Number.NaN, diskCacheSizeMinBytes - 1]) {
    const open = () => new DiskCache({ folder: '/nowhere', sizeMaxBytes: bytes, log: () => {} });
    assert.throws(open, isFault('USAGE'));
  }
});

test('a clock that is set back does not make a pause longer', async context => {
  const folder = join(temporaryFolder(context), 'cache');
  writeFileSync(folder, 'in the way');
  let nowMs = Date.now();
  const { cache } = await openCache(context, folder, { now: () => nowMs });
  const [chunk, other] = sealedChunks(new Random(1), 2);
  await keep(cache, [chunk!]);
  assert.ok(cache.stats().failing);
  rmSync(folder);
  nowMs -= 24 * 60 * 60 * 1000;
  await keep(cache, [other!]);
  assert.equal(cache.stats().entries, 1);
});

test('a disk that does not answer does not keep a cache from closing', async context => {
  const folder = temporaryFolder(context);
  const disk = await FaultyFolder.start(join(folder, 'disk'), join(folder, 'cache'));
  try {
    const { cache, lines } = await openCache(context, join(folder, 'cache'));
    const [chunk] = sealedChunks(new Random(1), 1);
    disk.fault = { do: 'hang' };
    const put = cache.put(chunk!.id, chunk!.sealed);
    await cache.close();
    assert.match(lines.at(-1)!, /is left: its disk does not answer/);
    disk.fault = undefined;
    await put;
  } finally {
    await disk.close();
  }
});
