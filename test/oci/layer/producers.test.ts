/** Layers as real tools pack them, GNU tar in each of its formats and Python: umoci gives the same. */

import assert from 'node:assert/strict';
import {
  linkSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { flattenImage } from '../../../src/oci/layer/flatten.ts';
import { ContentKeeper, MemoryImage } from '../../support/memory-image.ts';
import { runChecked } from '../../support/processes.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { compareTreeToFolder, umociUnpack } from '../../support/umoci.ts';

/** A folder with what a root file system has: the richer the format, the more of it. */
async function makeTree(dir: string, richness: 'v7' | 'ustar' | 'any'): Promise<void> {
  mkdirSync(join(dir, 'usr/bin'), { recursive: true });
  writeFileSync(join(dir, 'usr/bin/tool'), 'tool'.repeat(5000));
  writeFileSync(join(dir, 'empty'), '');
  symlinkSync('usr/bin', join(dir, 'bin'));
  linkSync(join(dir, 'usr/bin/tool'), join(dir, 'usr/bin/alias'));
  linkSync(join(dir, 'usr/bin/tool'), join(dir, 'zz'));
  await runChecked('chmod', ['4755', join(dir, 'usr/bin/tool')]);
  await runChecked('chmod', ['1777', join(dir, 'usr')]);
  await runChecked('chown', ['1234:2345', join(dir, 'usr/bin')]);
  if (richness === 'v7') return;
  await runChecked('mkfifo', [join(dir, 'pipe')]);
  await runChecked('mknod', [join(dir, 'null'), 'c', '1', '3']);
  const deep = join(dir, 'd'.repeat(90), 'e'.repeat(60));
  mkdirSync(deep, { recursive: true });
  writeFileSync(join(deep, 'f'.repeat(80)), 'deep');
  if (richness === 'ustar') return;
  writeFileSync(join(deep, 'g'.repeat(200)), 'deeper');
  symlinkSync('t'.repeat(300), join(dir, 'long-target'));
  await runChecked('chown', ['-h', '3000000:4000000000', join(dir, 'long-target')]);
  await runChecked('setfattr', ['-n', 'user.x', '-v', '0x00ff0a', join(dir, 'empty')]);
  await runChecked('setfattr', ['-n', 'trusted.t', '-v', 'dir', join(dir, 'usr')]);
  writeFileSync(join(dir, 'holes'), 'start');
  truncateSync(join(dir, 'holes'), 500_000);
  writeFileSync(join(dir, 'holes'), 'end', { flag: 'a' });
}

const python = `
import sys, tarfile
format = getattr(tarfile, sys.argv[1])
with tarfile.open(sys.argv[2], 'w', format=format) as tar:
    tar.add(sys.argv[3], arcname='.')
`;

const tar = (...options: string[]) => ['tar', ...options, '-cf', 'ARCHIVE', '-C', 'TREE', '.'];

const producers: Record<string, { command: string[]; richness: 'v7' | 'ustar' | 'any' }> = {
  'GNU tar, v7': { command: tar('--format=v7'), richness: 'v7' },
  'GNU tar, ustar': { command: tar('--format=ustar'), richness: 'ustar' },
  'GNU tar, old GNU': { command: tar('--format=oldgnu'), richness: 'any' },
  // Without -S: umoci knows sparse files only as PAX writes them.
  'GNU tar, GNU': { command: tar('--format=gnu'), richness: 'any' },
  'GNU tar, PAX, sparse, xattrs': {
    command: tar('--format=posix', '-S', '--xattrs', '--xattrs-include=*'),
    richness: 'any',
  },
  "Python's tarfile, ustar": {
    command: ['python3', '-c', python, 'USTAR_FORMAT', 'ARCHIVE', 'TREE'],
    richness: 'ustar',
  },
  "Python's tarfile, GNU": {
    command: ['python3', '-c', python, 'GNU_FORMAT', 'ARCHIVE', 'TREE'],
    richness: 'any',
  },
  "Python's tarfile, PAX": {
    command: ['python3', '-c', python, 'PAX_FORMAT', 'ARCHIVE', 'TREE'],
    richness: 'any',
  },
};

for (const [name, { command, richness }] of Object.entries(producers)) {
  test(`a layer of ${name}`, async context => {
    const dir = temporaryFolder(context);
    const tree = join(dir, 'tree');
    const archive = join(dir, 'layer.tar');
    await makeTree(tree, richness);
    const [program, ...options] = command.map(part =>
      part === 'ARCHIVE' ? archive : part === 'TREE' ? tree : part,
    );
    await runChecked(program!, options);
    const layers = [readFileSync(archive)];
    const theirs = await umociUnpack(dir, layers);
    assert.ok('rootfs' in theirs, JSON.stringify(theirs));
    const contents = new ContentKeeper();
    const image = new MemoryImage(layers, { bufferBytes: 64 * 1024 });
    const flattened = await flattenImage(image, contents);
    assert.deepEqual(compareTreeToFolder(flattened, contents, theirs.rootfs), []);
    assert.ok(flattened.root.entries.size >= 4);
  });
}
