import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listMounts, parseMountTable } from '../../src/fuse/mount-table.ts';
import { seeded } from '../support/random.ts';

test('a table with all that proc_pid_mountinfo(5) knows', () => {
  const text = [
    '22 1 254:0 / / rw,relatime - ext4 /dev/root rw',
    '36 22 0:45 / /mnt/a\\040b\\134c\\011\\012 ro,nodev shared:1 master:2 propagate_from:3 - fuse.imgstore imgstore rw,fd=3',
    '37 36 7:3 /sub\\040folder /mnt/\\303\\251 ro - erofs - ro',
    '',
  ].join('\n');
  assert.deepEqual(parseMountTable(text), [
    {
      device: '254:0',
      root: '/',
      mountPoint: '/',
      options: ['rw', 'relatime'],
      type: 'ext4',
      source: '/dev/root',
    },
    {
      device: '0:45',
      root: '/',
      mountPoint: '/mnt/a b\\c\t\n',
      options: ['ro', 'nodev'],
      type: 'fuse.imgstore',
      source: 'imgstore',
    },
    {
      device: '7:3',
      root: '/sub folder',
      mountPoint: '/mnt/é',
      options: ['ro'],
      type: 'erofs',
      source: '-',
    },
  ]);
});

test("this machine's own table", async () => {
  const mounts = await listMounts();
  assert.ok(mounts.some(({ mountPoint, type }) => mountPoint === '/proc' && type === 'proc'));
});

test('garbage is left out', () => {
  assert.deepEqual(parseMountTable('a\n1 2 3 4 5 6 7 8\n1 2 0:1 / /mnt - erofs\n\0'), []);
  for (const random of seeded(300)) {
    const mounts = parseMountTable(random.text(random.below(200), ' -\n\\0719/:,a'));
    for (const mount of mounts) assert.equal(Object.values(mount).includes(undefined!), false);
  }
});
