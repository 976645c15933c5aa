/** EROFS, overlays and bind mounts on served disks. Needs root, mkfs.erofs and losetup. */

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/limits.ts';
import {
  bindMount,
  listMounts,
  mountErofs,
  mountOverlay,
  mountsBelow,
  unmount,
} from '../../src/fuse/mount.ts';
import { FuseServer } from '../../src/fuse/server.ts';
import { createTestMounts, loopDevicesBelow, type TestMounts } from '../support/mounts.ts';
import { runChecked, runCommand } from '../support/processes.ts';
import { Random } from '../support/random.ts';
import { type Served, serve } from './served.ts';

interface Fixture {
  mounts: TestMounts;
  served: Served;
  /** What the disk was made of. */
  content: string;
  disk: string;
}

function makeContent(mounts: TestMounts, seed: number): string {
  const random = new Random(seed);
  const content = mounts.folder(`content-${seed}`);
  for (const name of ['a', 'b/c', 'b/d']) mkdirSync(join(content, name), { recursive: true });
  for (let i = 0; i < 60; i++) {
    const folder = random.pick(['a', 'b', 'b/c', 'b/d']);
    const size = random.below(random.chance(0.1) ? MiB : 20 * KiB);
    writeFileSync(join(content, folder, `file ${i}`), random.bytes(size));
  }
  writeFileSync(join(content, 'script'), '#!/bin/sh\necho it runs\n');
  chmodSync(join(content, 'script'), 0o755);
  symlinkSync('b/c', join(content, 'link'));
  return content;
}

async function makeDisk(mounts: TestMounts, seed = 1): Promise<{ content: string; image: string }> {
  const content = makeContent(mounts, seed);
  const image = join(mounts.dir, `disk-${seed}.erofs`);
  await runChecked('mkfs.erofs', ['--quiet', image, content]);
  return { content, image };
}

async function fixture(t: TestContext): Promise<Fixture> {
  const mounts = createTestMounts(t);
  const { content, image } = await makeDisk(mounts);
  const served = await serve(mounts, mounts.folder('fuse'));
  const disk = await served.add({ id: 'm1', serial: 1, path: image });
  return { mounts, served, content, disk };
}

async function assertEqualFolders(a: string, b: string): Promise<void> {
  await runChecked('diff', ['--recursive', '--no-dereference', a, b]);
}

function isError(code: string, message: RegExp): (error: unknown) => true {
  return error => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

async function readAhead(directory: string): Promise<number> {
  const { device, source } = (await listMounts()).find(m => m.mountPoint === directory)!;
  assert.match(source, /^\/dev\/loop/);
  return Number(readFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8'));
}

test('EROFS straight on the served file', async t => {
  const { mounts, served, content, disk } = await fixture(t);
  const directory = mounts.folder('erofs');
  const { via } = await mountErofs({ diskPath: disk, directory, kernelRelease: '7.0.0' });
  assert.equal(via, 'file');
  const entry = (await listMounts()).find(({ mountPoint }) => mountPoint === directory)!;
  assert.equal(entry.source, disk);
  assert.deepEqual([entry.options.includes('ro'), entry.options.includes('nodev')], [true, true]);
  await assertEqualFolders(content, directory);
  assert.equal((await runChecked(join(directory, 'script'), [])).stdout, 'it runs\n');
  // One mapped copy of each page: the data is not in the page cache of the disk too.
  const { stdout } = await runChecked('fincore', ['--bytes', '--noheadings', '-o', 'RES', disk]);
  const { bytes } = await served.stats('m1');
  assert.ok(Number(stdout) < bytes / 2, `${stdout} of ${bytes} bytes are cached twice`);
  await assert.rejects(served.command({ do: 'close' }), /BUSY/);
  await unmount(directory);
  await served.command({ do: 'close' });
});

test('EROFS on a loop device with direct I/O, which goes with the mount', async t => {
  const { mounts, served, content, disk } = await fixture(t);
  const directory = mounts.folder('erofs');
  // A kernel that is not trusted with files.
  const { via } = await mountErofs({ diskPath: disk, directory, kernelRelease: '6.18.10' });
  assert.equal(via, 'loop');
  const devices = await loopDevicesBelow(mounts.dir);
  assert.equal(devices.length, 1);
  const { stdout } = await runChecked('losetup', ['-n', '-O', 'DIO,RO,AUTOCLEAR', devices[0]!]);
  assert.deepEqual(stdout.trim().split(/\s+/), ['1', '1', '1']);
  assert.equal(await readAhead(directory), 1024);
  await assertEqualFolders(content, directory);
  await unmount(directory);
  assert.deepEqual(await loopDevicesBelow(mounts.dir), []);
  await served.command({ do: 'close' });
});

test('where the kernel does not mount the file itself, the loop device steps in', async t => {
  const mounts = createTestMounts(t);
  const { content, image } = await makeDisk(mounts);
  // A file on an overlay: the kernel stacks no EROFS on that.
  const merged = mounts.folder('merged');
  const [lower, upper, work] = ['lower', 'upper', 'work'].map(name => mounts.folder(name));
  await mountOverlay({ lower: lower!, upper: upper!, work: work!, directory: merged });
  const diskPath = join(merged, 'disk');
  await runChecked('cp', [image, diskPath]);
  const directory = mounts.folder('erofs');
  await assert.rejects(
    mountErofs({ diskPath, directory, via: 'file' }),
    isError('UNSUPPORTED', /the kernel cannot mount this file/),
  );
  const kernelRelease = '7.0.0';
  assert.deepEqual(await mountErofs({ diskPath, directory, kernelRelease }), { via: 'loop' });
  await assertEqualFolders(content, directory);
  await unmount(directory);
  await unmount(merged);
});

test('mounts on a server in the same process, several at once', async t => {
  const mounts = createTestMounts(t);
  const logged: string[] = [];
  const log = (_: string, message: string): number => logged.push(message);
  const server = await FuseServer.mount({ mountPoint: mounts.folder('fuse'), log });
  const each = await Promise.all(
    [1, 2, 3, 4, 5].map(async seed => {
      const { content, image } = await makeDisk(mounts, seed);
      const bytes = readFileSync(image);
      server.add(`m${seed}`, seed, {
        sizeBytes: bytes.length,
        read: async (offset, length) => [bytes.subarray(offset, offset + length)],
      });
      const directory = mounts.folder(`erofs-${seed}`);
      await mountErofs({ diskPath: server.path(`m${seed}`), directory, log });
      return { content, directory };
    }),
  );
  await Promise.all(each.map(({ content, directory }) => assertEqualFolders(content, directory)));
  assert.ok(server.stats().every(({ reads, failures }) => reads > 0 && failures === 0));
  for (const { directory } of each) await unmount(directory);
  await server.close();
  assert.deepEqual(await mountsBelow(mounts.dir), []);
  assert.deepEqual(logged, []);
});

test('a failing read fails one file of the image, until the store is back', async t => {
  const { mounts, served, disk } = await fixture(t);
  const content = mounts.folder('large');
  writeFileSync(join(content, 'large'), new Random(1).bytes(6 * MiB));
  writeFileSync(join(content, 'small'), 'small');
  const image = join(mounts.dir, 'large.erofs');
  await runChecked('mkfs.erofs', ['--quiet', image, content]);
  const path = await served.add({ id: 'm2', serial: 2, path: image });
  const directory = mounts.folder('erofs');
  await mountErofs({ diskPath: path, directory });
  const other = mounts.folder('other');
  await mountErofs({ diskPath: disk, directory: other });
  await served.command({ do: 'fail', id: 'm2', fromBytes: 3 * MiB, toBytes: 4 * MiB });
  const failed = await runCommand('cat', [join(directory, 'large')]);
  assert.match(failed.stderr, /Input\/output error/);
  assert.equal((await runChecked('cat', [join(directory, 'small')])).stdout, 'small');
  await runChecked('cat', [join(other, 'script')]);
  await served.command({ do: 'fail', id: 'm2', fromBytes: 0, toBytes: 0 });
  await assertEqualFolders(content, directory);
});

test('a writable layer on top, in folders of any name', async t => {
  const { mounts, content, disk } = await fixture(t);
  const lower = mounts.folder('lo,w:e\\r');
  const writable = mounts.folder('up,p:e\\r =');
  const [upper, work] = [join(writable, 'upper'), join(writable, 'wo:rk')];
  mkdirSync(upper);
  mkdirSync(work);
  const directory = mounts.folder('merged, all');
  await mountErofs({ diskPath: disk, directory: lower });
  await mountOverlay({ lower, upper, work, directory });
  await assertEqualFolders(content, directory);
  writeFileSync(join(directory, 'new'), 'new');
  await runChecked('rm', ['-r', join(directory, 'a')]);
  await runChecked('mv', [join(directory, 'b', 'c'), join(directory, 'moved')]);
  await assertEqualFolders(join(content, 'b', 'c'), join(directory, 'moved'));
  assert.equal(readFileSync(join(upper, 'new'), 'utf8'), 'new');
  await assertEqualFolders(content, lower);
  const below = await mountsBelow(mounts.dir);
  assert.deepEqual(
    below.map(({ type }) => type),
    ['overlay', 'erofs', 'fuse.imgstore'],
  );
  for (const { mountPoint } of below) await unmount(mountPoint);
  assert.deepEqual(await mountsBelow(mounts.dir), []);
});

test('what does not fit into a call of mount is refused, not cut', async t => {
  const mounts = createTestMounts(t);
  const lower = `/${'x'.repeat(200)}`.repeat(21);
  const overlay = mountOverlay({ lower, upper: '/u', work: '/w', directory: mounts.dir });
  await assert.rejects(overlay, isError('LIMIT', /the paths are too long/));
});

test('a bind mount of the disk, read-only, with the options of what it shows', async t => {
  const { mounts, disk, served } = await fixture(t);
  const to = mounts.folder('shown');
  await bindMount({ from: join(disk, '..'), to, readOnly: true });
  await runChecked('cmp', [disk, join(to, 'disk')]);
  const entry = (await mountsBelow(to))[0]!;
  for (const option of ['ro', 'nosuid', 'nodev', 'noexec']) {
    assert.ok(entry.options.includes(option), `${option} of ${entry.options}`);
  }
  assert.equal(entry.root, '/m1');
  await unmount(to);
  const writable = mounts.folder('writable');
  const copy = mounts.folder('copy');
  symlinkSync('copy', join(mounts.dir, 'link'));
  await bindMount({ from: writable, to: join(mounts.dir, 'link'), readOnly: true });
  assert.equal((await runCommand('touch', [join(copy, 'x')])).exitCode, 1);
  await runChecked('touch', [join(writable, 'x')]);
  await unmount(copy);
  await bindMount({ from: writable, to: copy, readOnly: false });
  await runChecked('touch', [join(copy, 'y')]);
  await unmount(copy);
  await served.command({ do: 'close' });
});

test('a mount in use can be detached, and ends when its last user does', async t => {
  const { mounts, disk, served } = await fixture(t);
  const directory = mounts.folder('erofs');
  await mountErofs({ diskPath: disk, directory });
  const file = await open(join(directory, 'script'));
  await assert.rejects(unmount(directory), isError('BUSY', /in use/));
  await unmount(directory, { detach: true });
  assert.equal((await mountsBelow(directory)).length, 0);
  await assert.rejects(served.command({ do: 'close' }), /BUSY/);
  await file.close();
  await served.command({ do: 'close' });
});

test('errors of mount calls say what is the matter', async t => {
  const { mounts, disk } = await fixture(t);
  const directory = mounts.folder('erofs');
  await assert.rejects(
    mountErofs({ diskPath: disk, directory: join(mounts.dir, 'absent') }),
    isError('NOT_FOUND', /no such file/),
  );
  await assert.rejects(
    mountErofs({ diskPath: join(mounts.dir, 'absent'), directory }),
    isError('NOT_FOUND', /no such file/),
  );
  const garbage = join(mounts.dir, 'garbage');
  writeFileSync(garbage, new Random(3).bytes(64 * KiB));
  for (const via of ['auto', 'file', 'loop'] as const) {
    await assert.rejects(
      mountErofs({ diskPath: garbage, directory, via }),
      isError('CORRUPT', /the kernel refuses it/),
      via,
    );
  }
  assert.deepEqual(await loopDevicesBelow(mounts.dir), []);
  await assert.rejects(unmount(directory), isError('NOT_FOUND', /nothing is mounted/));
  await assert.rejects(unmount(join(directory, 'absent')), isError('NOT_FOUND', /no such file/));
});
