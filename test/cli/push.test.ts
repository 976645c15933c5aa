/** `push` through the command line: progress, bad images, no space, and nothing half-written. */

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ociDigest } from '../../src/base/digest.ts';
import { imageOf, OddRegistry } from '../oci/registry/odd-registry.ts';
import { blobPath, writeOciLayout } from '../support/oci-layout.ts';
import { createTestHome, runChecked, runCommand, type TestHome } from '../support/processes.ts';
import { Random } from '../support/random.ts';
import { pushSmallImage, runnableEntries, writeSmallImage } from '../support/small-images.ts';
import { tarOf } from '../support/tar-builder.ts';

const launcher = join(import.meta.dirname, '..', '..', 'src', 'imgstore.mjs');

async function names(home: TestHome): Promise<[string, string][]> {
  const { stdout } = await home.runChecked(['ls', '--json']);
  const listed = JSON.parse(stdout) as { name: string; recipe: string }[];
  return listed.map(({ name, recipe }) => [name, recipe]);
}

test('progress: lines in a pipe, a bar on a terminal, nothing with --quiet', async context => {
  const home = createTestHome(context);
  const source = writeSmallImage(home, 'small');
  const piped = await home.runChecked(['push', source, 'small']);
  assert.match(
    piped.stderr,
    /^Made the dedup salt [^\n]*\nLayer 1 of 1\nStoring\nMade the owner key [^\n]*\n$/,
  );
  assert.match(piped.stdout, /^name: +small:latest\n/);

  const onTerminal = async (...options: string[]) => {
    const words = [process.execPath, launcher, 'push', '--force', ...options, source, 'small'];
    const command = words.map(word => `'${word}'`).join(' ');
    const env = home.environment({ TERM: 'xterm' });
    const args = ['--quiet', '--return', '--command', command, '/dev/null'];
    return (await runChecked('script', args, { env })).stdout;
  };
  const bar = await onTerminal();
  assert.match(bar, /Layer 1 of 1 ░{30} [0-9.]+ MiB/);
  const lastShow = bar.lastIndexOf('\x1b[?25h');
  assert.ok(lastShow > bar.lastIndexOf('\x1b[?25l'), 'the cursor is shown again');
  assert.equal(await onTerminal('--quiet'), '');
});

test('an image that lies about its bytes leaves names as they were', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'good');
  const before = await names(home);
  const tar = tarOf(runnableEntries.slice(0, 2));
  const damages: Record<string, (path: string, bytes: Buffer) => void> = {
    truncated: (path, bytes) => writeFileSync(path, bytes.subarray(0, bytes.length >> 1)),
    flipped: (path, bytes) => {
      bytes[bytes.length >> 1]! ^= 4;
      writeFileSync(path, bytes);
    },
    longer: (path, bytes) => writeFileSync(path, Buffer.concat([bytes, bytes])),
    empty: path => writeFileSync(path, ''),
  };
  for (const compression of ['none', 'gzip'] as const) {
    for (const [kind, damage] of Object.entries(damages)) {
      const dir = home.path(`${kind}-${compression}`);
      const written = writeOciLayout(dir, { layers: [{ tar, compression }], tag: 'x' });
      const { digest } = compression === 'gzip' ? written.layers[0]! : written.manifest;
      const path = blobPath(dir, digest);
      damage(path, readFileSync(path));
      const { exitCode, stdout, stderr } = await home.run(['push', '-q', `oci:${dir}:x`, 'good']);
      assert.equal(exitCode, 1, `${kind} ${compression}`);
      assert.equal(stdout, '');
      assert.match(stderr, /^imgstore: Cannot [^\n]+\n$/);
    }
  }
  assert.deepEqual(await names(home), before);
  assert.equal((await home.run(['verify', '--quiet'])).exitCode, 0);
});

test('without space a push fails in one line, and what was there stays whole', async context => {
  const home = createTestHome(context);
  mkdirSync(home.home);
  await runChecked('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'test', home.home]);
  await pushSmallImage(home, 'small');
  const noise = Buffer.alloc(8_000_000);
  for (let i = 0; i < noise.length; i += 4) noise.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
  const entries = [{ path: 'noise', content: noise.map((byte, i) => byte ^ (i * i)) as Buffer }];
  const source = writeSmallImage(home, 'large', { entries });
  for (const name of ['large', 'small']) {
    const { exitCode, stderr } = await home.run(['push', '-q', source, name]);
    assert.equal(exitCode, 1);
    assert.match(
      stderr,
      /^(?:\S+ warn Cannot note a layer [^\n]*\n)?imgstore: [^\n]*no space left on the device[^\n]*\n$/,
    );
  }
  assert.deepEqual(
    (await names(home)).map(([name]) => name),
    ['small:latest'],
  );
  assert.equal((await home.run(['verify', '--quiet'])).exitCode, 0);
  const temporary = join(home.home, 'store', 'tmp');
  assert.deepEqual(readdirSync(temporary), []);
});

test('a store that is read-only can be read, and a push says what it is', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  await runChecked('mount', ['--bind', home.home, home.home]);
  await runChecked('mount', ['-o', 'remount,bind,ro', home.home]);
  const source = writeSmallImage(home, 'other', { entries: runnableEntries.slice(0, 2) });
  const { exitCode, stderr } = await home.run(['push', '-q', source, 'other']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /^imgstore: [^\n]*read-only[^\n]*\n$/);
  assert.equal((await home.runChecked(['verify'])).exitCode, 0);
  const mount = await home.run(['mount', 'small', '.']);
  assert.equal(mount.exitCode, 1);
  assert.match(mount.stderr, /^imgstore: [^\n]*read-only[^\n]*\n$/);
  await runCommand('umount', [home.home]);
});

test('a recipe or a name that is damaged: said in one line, listed, mended by a push', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const store = join(home.home, 'store');
  const source = `oci:${home.path('layout-small')}`;
  for (const folder of ['recipes', 'names']) {
    const object = readdirSync(store, { recursive: true, encoding: 'utf8', withFileTypes: true })
      .filter(entry => entry.isFile() && entry.parentPath.includes(`/${folder}`))
      .map(entry => join(entry.parentPath, entry.name))[0]!;
    const bytes = readFileSync(object);
    bytes[bytes.length - 20]! ^= 1;
    chmodSync(object, 0o644);
    writeFileSync(object, bytes);
    for (const args of [['inspect'], ['mount', '.'], ['export', 'tar:x'], ['run']]) {
      const [verb, ...rest] = args as [string, ...string[]];
      const { exitCode, stdout, stderr } = await home.run([verb, 'small', ...rest]);
      assert.deepEqual([exitCode, stdout], [1, ''], `${folder} ${verb}`);
      assert.match(stderr, /^imgstore: Cannot [^\n]+\n$/);
    }
    const verify = await home.run(['verify']);
    assert.equal(verify.exitCode, 1);
    assert.match(verify.stdout, /^small:latest is damaged/);
    await home.runChecked(['push', '-q', source, 'small']);
    assert.equal((await home.run(['verify', '--quiet'])).exitCode, 0);
  }
});

test('layers of a registry that were pushed before are not downloaded again', async context => {
  const home = createTestHome(context);
  const layers = [1, 2, 3, 4, 5].map(i =>
    tarOf([{ path: `layer-${i}`, content: new Random(i).bytes(100_000) }]),
  );
  const downloads = async (name: string, tars: readonly Buffer[]) => {
    const registry = await OddRegistry.start(context, imageOf(tars));
    await home.runChecked(['push', `docker://${registry.host}/app`, name]);
    const digests = tars.map(tar => ociDigest(tar));
    const asked = registry.requests.map(({ path }) =>
      digests.indexOf(path.split('/').at(-1) as never),
    );
    return asked.filter(layer => layer >= 0).sort();
  };
  assert.deepEqual(await downloads('app:1', layers.slice(0, 4)), [0, 1, 2, 3]);
  const changed = layers.with(3, layers[4]!).slice(0, 4);
  assert.deepEqual(await downloads('app:2', changed), [3]);
  assert.equal(statSync(join(home.home, 'layers')).mode & 0o777, 0o700);
  await home.runChecked(['verify', 'app:2']);
});
