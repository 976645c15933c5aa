/** Chunks that are damaged or gone under a mount: errors for their data alone, and all well again. */

import assert from 'node:assert/strict';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitUntil } from '../support/poll.ts';
import { createTestHome, mountsBelow, type TestHome } from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { noise, pushSmallImage, writeSmallImage } from '../support/small-images.ts';

interface Fault {
  chunk: string;
  problem: string;
  files: string[];
}

/** Every chunk object of the store, largest first. */
function chunkPaths(home: TestHome): string[] {
  const store = join(home.home, 'store');
  return readdirSync(store, { recursive: true, encoding: 'utf8' })
    .filter(path => /chunks\/.*[0-9a-f]{64}$/.test(path))
    .map(path => join(store, path))
    .sort((a, b) => statSync(b).size - statSync(a).size);
}

function idOf(path: string): string {
  return /[0-9a-f]{64}$/.exec(path)![0];
}

function flipBit(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
}

async function verify(home: TestHome): Promise<{ exitCode: number | undefined; faults: Fault[] }> {
  const { exitCode, stdout } = await home.run(['verify', '--json', 'small']);
  const { images } = JSON.parse(stdout) as { images: { faults: Fault[] }[] };
  return { exitCode, faults: images[0]!.faults };
}

const damages = {
  missing: (path: string) => renameSync(path, `${path}.away`),
  corrupt: (path: string) => {
    writeFileSync(`${path}.away`, readFileSync(path));
    flipBit(path);
  },
};

for (const [kind, damage] of Object.entries(damages)) {
  test(`a ${kind} chunk is EIO for its data alone, with a line in the log`, async context => {
    const home = createTestHome(context);
    await pushSmallImage(home, 'small');
    const [largest] = chunkPaths(home); // of noise: no other is as large
    damage(largest!);
    const dir = home.path('mnt');
    mkdirSync(dir);
    await home.runChecked(['mount', 'small', dir]);
    assert.throws(() => readFileSync(`${dir}/srv/noise`), { code: 'EIO' });
    assert.equal(readFileSync(`${dir}/srv/plain`, 'utf8'), 'not a program\n');
    assert.equal(readdirSync(`${dir}/bin`).length > 3, true);
    const logged = () =>
      readFileSync(`${home.home}/run/daemon.log`, 'utf8')
        .split('\n')
        .filter(line => line.includes('small:latest: ') && line.includes(idOf(largest!)));
    await waitUntil('it is logged', () => logged().length > 0);
    assert.match(logged()[0]!, / error small:latest: .*: \/srv\/noise/);
    assert.equal(logged().length, 1, 'a chunk that is read in a loop does not fill the log');

    renameSync(`${largest}.away`, largest!);
    assertSameBytes(readFileSync(`${dir}/srv/noise`), noise);
    await home.runChecked(['umount', dir]);
  });
}

test('verify names what is broken, and a push with --force mends it', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const [first, second] = chunkPaths(home);
  flipBit(first!);
  rmSync(second!);
  const broken = await verify(home);
  assert.equal(broken.exitCode, 1);
  assert.deepEqual(
    broken.faults.map(({ chunk }) => chunk).sort(),
    [first!, second!].map(idOf).sort(),
  );
  assert.ok(broken.faults.every(({ files }) => files.length > 0));
  const shown = await home.run(['verify']);
  assert.equal(shown.exitCode, 1);
  assert.match(shown.stdout, /small:latest is damaged .*2 faults/);
  assert.match(shown.stdout, new RegExp(`chunk ${idOf(first!)}: .*\\(.*/srv/noise`));
  await home.runChecked(['push', '--force', writeSmallImage(home, 'small'), 'small']);
  assert.deepEqual(await verify(home), { exitCode: 0, faults: [] });
});

test('a mount whose metadata cannot be had is refused, says why, and leaves nothing', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const chunks = chunkPaths(home);
  for (const path of chunks) renameSync(path, `${path}.away`);
  const dir = home.path('mnt');
  mkdirSync(dir);
  for (const options of [[], ['--rw']]) {
    const result = await home.run(['mount', ...options, 'small', dir]);
    assert.equal(result.exitCode, 1);
    assert.match(
      result.stderr,
      /^imgstore: Cannot mount small:latest on [^\n]*[0-9a-f]{64}[^\n]*\n$/,
    );
    assert.match(result.stderr, /imgstore verify small:latest/);
    const fuse = `${home.home}/run/fuse`;
    assert.deepEqual(
      mountsBelow(home.dir).filter(point => point !== fuse),
      [],
    );
    assert.deepEqual(readdirSync(`${home.home}/run/mounts`), ['serial']);
    assert.deepEqual(readdirSync(fuse), []);
  }
  const run = await home.run(['run', 'small', '--', 'true']);
  assert.equal(run.exitCode, 1);
  assert.match(run.stderr, /^imgstore: Cannot mount small:latest on [^\n]*\n$/);
  for (const path of chunks) renameSync(`${path}.away`, path);
  await home.runChecked(['mount', 'small', dir]);
  assertSameBytes(readFileSync(`${dir}/srv/noise`), noise);
});

test('the store goes and comes back under a mount', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = home.path('mnt');
  mkdirSync(dir);
  await home.runChecked(['mount', 'small', dir]);
  renameSync(`${home.home}/store`, `${home.home}/away`);
  assert.throws(() => readFileSync(`${dir}/srv/noise`), { code: 'EIO' });
  const mount = await home.run(['mount', 'small', home.path('home')]);
  assert.match(mount.stderr, /^imgstore: Cannot open the store [^\n]*: it is gone[^\n]*\n$/);
  renameSync(`${home.home}/away`, `${home.home}/store`);
  assertSameBytes(readFileSync(`${dir}/srv/noise`), noise);
});
