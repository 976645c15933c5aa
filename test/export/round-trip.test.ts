/** What is exported holds the same tree as what was pushed, as other tools read it. */

import assert from 'node:assert/strict';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';
import { createTestHome, runChecked, runCommand, type TestHome } from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { noise, oddEntries, pushSmallImage } from '../support/small-images.ts';
import { type CompareOptions, compareTrees } from '../support/tree-compare.ts';

/** umoci changes the folder that it unpacks into. */
const allButRootTime: CompareOptions = { ignore: [{ field: 'mtime', path: '.' }] };

function folder(home: TestHome, name: string): string {
  const path = home.path(name);
  mkdirSync(path);
  return path;
}

async function oddHome(context: { after(fn: () => Promise<void>): void }): Promise<TestHome> {
  const home = createTestHome(context);
  await pushSmallImage(home, 'odd', { entries: oddEntries });
  return home;
}

async function mountOdd(home: TestHome, name = 'odd'): Promise<string> {
  const dir = folder(home, `mnt-${name}`);
  await home.runChecked(['mount', name, dir]);
  return dir;
}

test('the mounted tree is what umoci unpacks of the source', async context => {
  const home = await oddHome(context);
  const bundle = home.path('bundle');
  await runChecked('umoci', ['unpack', '--image', `${home.path('layout-odd')}:latest`, bundle]);
  const dir = await mountOdd(home);
  assert.deepEqual(await compareTrees(`${bundle}/rootfs`, dir, allButRootTime), []);
});

test('tar: GNU tar extracts the mounted tree', async context => {
  const home = await oddHome(context);
  await home.runChecked(['export', 'odd', `tar:${home.path('odd.tar')}`]);
  const extracted = folder(home, 'extracted');
  const xattrs = ['--xattrs', '--xattrs-include=*'];
  const args = ['--extract', '--file', home.path('odd.tar'), '--directory', extracted];
  await runChecked('tar', [...args, '--same-permissions', '--numeric-owner', ...xattrs]);
  assert.deepEqual(await compareTrees(await mountOdd(home), extracted), []);
});

test('oci: umoci unpacks the mounted tree, and a push of it gives the same disk', async context => {
  const home = await oddHome(context);
  const layout = home.path('exported');
  await home.runChecked(['export', 'odd', `oci:${layout}:a-tag`]);
  const bundle = home.path('bundle');
  await runChecked('umoci', ['unpack', '--image', `${layout}:a-tag`, bundle]);
  const dir = await mountOdd(home);
  assert.deepEqual(await compareTrees(dir, `${bundle}/rootfs`, allButRootTime), []);
  await home.runChecked(['push', `oci:${layout}:a-tag`, 'again']);
  for (const name of ['odd', 'again']) {
    await home.runChecked(['export', name, `disk:${home.path(name)}`]);
  }
  await runChecked('cmp', [home.path('odd'), home.path('again')]);
  const config = async (name: string) =>
    JSON.parse((await home.runChecked(['inspect', '--json', name])).stdout) as {
      config: { config: object };
    };
  assert.deepEqual((await config('odd')).config.config, (await config('again')).config.config);
});

test('oci: into a layout with other images, whose tag is replaced', async context => {
  const home = await oddHome(context);
  await pushSmallImage(home, 'small');
  const layout = home.path('exported');
  for (const [name, tag] of [
    ['odd', 'one'],
    ['small', 'two'],
    ['odd', 'two'],
  ]) {
    await home.runChecked(['export', name!, `oci:${layout}:${tag}`]);
  }
  const { stdout } = await runChecked('umoci', ['list', '--layout', layout]);
  assert.deepEqual(stdout.trim().split('\n').sort(), ['one', 'two']);
  const index = JSON.parse(readFileSync(`${layout}/index.json`, 'utf8'));
  assert.equal(index.manifests.length, 2);
  assert.equal(index.manifests[0].digest, index.manifests[1].digest);
});

test('disk: sound for fsck.erofs, sparse, and the bytes of DIR/disk', async context => {
  const home = await oddHome(context);
  await home.runChecked(['export', 'odd', `disk:${home.path('disk')}`]);
  await runChecked('fsck.erofs', ['--extract', home.path('disk')]);
  const dir = folder(home, 'as-disk');
  await home.runChecked(['mount', '--as', 'disk', 'odd', dir]);
  await runChecked('cmp', [`${dir}/disk`, home.path('disk')]);
});

test('a raw disk goes in and out as it is, and is no tree', async context => {
  const home = createTestHome(context);
  // Whole blocks: others are filled up.
  const disk = Buffer.alloc(1200 * 4096);
  noise.copy(disk);
  noise.copy(disk, disk.length - 12_345);
  writeFileSync(home.path('raw'), disk);
  await home.runChecked(['push', `disk:${home.path('raw')}`, 'raw']);
  await home.runChecked(['export', 'raw', `disk:${home.path('back')}`]);
  assertSameBytes(readFileSync(home.path('back')), disk);
  assert.ok(statSync(home.path('back')).blocks * 512 < disk.length - 2_000_000, 'it is sparse');
  const dir = folder(home, 'mnt');
  for (const args of [
    ['export', 'raw', `tar:${home.path('t')}`],
    ['export', 'raw', `oci:${home.path('t')}`],
    ['mount', 'raw', dir],
    ['run', 'raw', '--', 'true'],
  ]) {
    const { exitCode, stderr } = await home.run(args);
    assert.equal(exitCode, 1);
    assert.match(stderr, /^imgstore: [^\n]*: it is a raw disk\. [^\n]+\n$/);
  }
  await home.runChecked(['mount', '--as', 'disk', 'raw', dir]);
  assertSameBytes(readFileSync(`${dir}/disk`), disk);
});

test('what is at the target: a file is replaced, anything else is left', async context => {
  const home = await oddHome(context);
  const before = 'precious';
  writeFileSync(home.path('file'), before);
  symlinkSync('file', home.path('symlink'));
  await home.runChecked(['export', 'odd', `tar:${home.path('symlink')}`]);
  assert.notEqual(readFileSync(home.path('file'), 'utf8'), before);
  folder(home, 'folder');
  writeFileSync(`${home.path('folder')}/file`, before);
  await runChecked('mkfifo', [home.path('pipe')]);
  const shown = readdirSync(home.dir).sort();
  for (const target of ['tar:folder', 'tar:pipe', 'disk:/dev/null', 'oci:folder', 'oci:file']) {
    const { exitCode, stderr } = await home.run(['export', 'odd', target]);
    assert.equal(exitCode, 1, target);
    assert.match(stderr, /^imgstore: Cannot [^\n]+\n$/);
  }
  assert.ok(statSync('/dev/null').isCharacterDevice());
  assert.deepEqual(readdirSync(home.dir).sort(), shown);
  for (const target of ['zip:x', 'tar:', 'x']) {
    assert.equal((await home.run(['export', 'odd', target])).exitCode, 2, target);
  }
});

test('without space for it, or with a chunk missing, nothing is left of an export', async context => {
  const home = await oddHome(context);
  const tiny = folder(home, 'tiny');
  await runChecked('mount', ['-t', 'tmpfs', '-o', 'size=400k', 'test', tiny]);
  writeFileSync(`${tiny}/there`, 'before');
  const targets = ['tar:tiny/there', 'disk:tiny/new', 'oci:tiny/new', 'oci:tiny/new/below'];
  const fails = async (pattern: RegExp) => {
    for (const target of targets) {
      const { exitCode, stderr } = await home.run(['export', '--quiet', 'odd', target]);
      assert.equal(exitCode, 1, target);
      assert.match(stderr, /^imgstore: [^\n]+\n$/, target);
      assert.match(stderr, pattern, target);
      assert.deepEqual(readdirSync(tiny), ['there'], target);
    }
    assert.equal(readFileSync(`${tiny}/there`, 'utf8'), 'before');
  };
  await fails(/no space left on the device/);
  await runChecked('mount', ['-o', 'remount,size=100m', tiny]);
  const chunks = readdirSync(`${home.home}/store`, { recursive: true, encoding: 'utf8' })
    .filter(path => /chunks\/.*[0-9a-f]{64}$/.test(path))
    .map(path => `${home.home}/store/${path}`)
    .sort((a, b) => statSync(b).size - statSync(a).size);
  await runCommand('rm', [chunks[0]!]);
  await fails(/[0-9a-f]{64}/);
});
