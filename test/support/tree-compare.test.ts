import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { compareTrees } from './tree-compare.ts';

/** Removed when the test ends. */
function temporaryDir(context: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-compare-'));
  context.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** A folder with one of everything, and an exact copy of it. */
function twins(context: TestContext): { expected: string; actual: string } {
  const dir = temporaryDir(context);
  const expected = join(dir, 'expected');
  mkdirSync(join(expected, 'sub/deep'), { recursive: true });
  writeFileSync(join(expected, 'sub/file'), 'content');
  linkSync(join(expected, 'sub/file'), join(expected, 'sub/second'));
  writeFileSync(join(expected, 'sub/other'), 'content');
  linkSync(join(expected, 'sub/other'), join(expected, 'sub/other2'));
  writeFileSync(join(expected, 'plain'), 'plain');
  writeFileSync(join(expected, 'large'), Buffer.alloc(3 * 1024 * 1024, 7));
  writeFileSync(Buffer.from(`${expected}/not-\xff\n-text`, 'latin1'), '');
  symlinkSync('sub/file', join(expected, 'link'));
  execFileSync('mknod', [join(expected, 'device'), 'c', '4', '300']);
  execFileSync('mkfifo', [join(expected, 'fifo')]);
  setXattr(join(expected, 'plain'), 'user.note', 'abc');
  setXattr(join(expected, 'sub'), 'trusted.note', 'abc');
  execFileSync('cp', ['--archive', expected, join(dir, 'actual')]);
  return { expected, actual: join(dir, 'actual') };
}

function setXattr(path: string, name: string, value: string): void {
  execFileSync('setfattr', ['--no-dereference', '--name', name, '--value', value, path]);
}

function time(path: string): void {
  execFileSync('touch', ['--no-dereference', '--date', '@1700000000.123456789', path]);
}

/** Directory times change when something below them is changed, which is not what is tested. */
const ignore = [{ field: 'mtime' as const, path: '.' }];

test('a copy with everything preserved has no differences', async t => {
  const { expected, actual } = twins(t);
  assert.deepEqual(await compareTrees(expected, actual), []);
});

const changes: [
  name: string,
  change: (actual: string) => void,
  differences: (string | RegExp)[],
][] = [
  ['mode', d => chmodSync(join(d, 'plain'), 0o4755), ['plain: mode: expected 0644, actual 4755']],
  [
    'owner',
    d => execFileSync('chown', ['-h', '7:8', `${d}/link`]),
    ['link: uid: expected 0, actual 7', 'link: gid: expected 0, actual 8'],
  ],
  [
    'nanoseconds of mtime',
    d => time(join(d, 'fifo')),
    [/^fifo: mtime: expected \d+, actual 1700000000123456789$/],
  ],
  [
    'mtime of a symlink',
    d => lutimesSync(join(d, 'link'), 5, 5),
    [/^link: mtime: expected \d+, actual 5000000000$/],
  ],
  [
    'size',
    d => keepTime(d, 'plain', path => truncateSync(path, 4)),
    ['plain: size: expected 5, actual 4'],
  ],
  [
    'one byte far into a file',
    d => keepTime(d, 'large', path => patch(path, 2_500_000)),
    ['large: content: differs from byte 2500000'],
  ],
  [
    'content of a hard link, once',
    d => keepTime(d, 'sub/file', path => patch(path, 1)),
    ['sub/file: content: differs from byte 1'],
  ],
  [
    'xattr value',
    d => setXattr(join(d, 'plain'), 'user.note', 'abd'),
    ['plain: xattr: user.note: expected 3 bytes 0x616263, actual 3 bytes 0x616264'],
  ],
  [
    'xattr missing',
    d => execFileSync('setfattr', ['-x', 'trusted.note', `${d}/sub`]),
    ['sub: xattr: trusted.note: expected 3 bytes 0x616263, actual none'],
  ],
  [
    'capability',
    d => setXattr(`${d}/large`, 'security.capability', capability),
    [
      'large: xattr: security.capability: expected none, ' +
        'actual 20 bytes 0x0100000200040000000000000000000000000000',
    ],
  ],
];

const capability = '0x0100000200040000000000000000000000000000';

function keepTime(actual: string, name: string, change: (path: string) => void): void {
  const path = join(actual, name);
  change(path);
  execFileSync('touch', ['--reference', join(actual, '../expected', name), path]);
}

function patch(path: string, offset: number): void {
  const args = [`of=${path}`, 'bs=1', 'count=1', 'conv=notrunc', 'status=none', `seek=${offset}`];
  execFileSync('dd', args, { input: '!' });
}

for (const [name, change, differences] of changes) {
  test(`finds a difference: ${name}`, async t => {
    const { expected, actual } = twins(t);
    change(actual);
    const found = await compareTrees(expected, actual, { ignore });
    assert.equal(found.length, differences.length, found.join('\n'));
    for (const [i, difference] of differences.entries()) {
      if (typeof difference === 'string') assert.equal(found[i], difference);
      else assert.match(found[i]!, difference);
    }
  });
}

/** Changes of names also change the time of their directory and the link counts. */
async function entryDifferences(expected: string, actual: string): Promise<string[]> {
  return compareTrees(expected, actual, { ignore: [{ field: 'mtime' }, { field: 'links' }] });
}

test('finds entries of one side, and names byte by byte', async t => {
  const { expected, actual } = twins(t);
  unlinkSync(Buffer.from(`${actual}/not-\xff\n-text`, 'latin1'));
  writeFileSync(Buffer.from(`${actual}/not-\xfe\n-text`, 'latin1'), '');
  assert.deepEqual(await entryDifferences(expected, actual), [
    'not-\\xfe\\n-text: entry: unexpected',
    'not-\\xff\\n-text: entry: missing',
  ]);
});

test('finds another type, symlink target and device number', async t => {
  const { expected, actual } = twins(t);
  for (const name of ['link', 'device', 'fifo']) unlinkSync(join(actual, name));
  symlinkSync('sub/File', join(actual, 'link'));
  execFileSync('mknod', [join(actual, 'device'), 'c', '4', '301']);
  mkdirSync(join(actual, 'fifo'));
  assert.deepEqual(await entryDifferences(expected, actual), [
    'device: device: expected 4:300, actual 4:301',
    'fifo: type: expected fifo, actual directory',
    'link: target: expected sub/file, actual sub/File',
  ]);
});

test('finds hard links that are joined otherwise while all counts are the same', async t => {
  const { expected, actual } = twins(t);
  for (const [from, to] of [
    ['file', 'other2'],
    ['other', 'second'],
  ] as const) {
    rmSync(join(actual, 'sub', to));
    linkSync(join(actual, 'sub', from), join(actual, 'sub', to));
  }
  const found = await compareTrees(expected, actual, { ignore: [{ field: 'mtime' }] });
  assert.deepEqual(found, [
    'sub/other2: hard-link: expected sub/other, actual sub/file',
    'sub/second: hard-link: expected sub/file, actual sub/other',
  ]);
});

test('finds a link count whose other names lie outside of the tree', async t => {
  const { expected, actual } = twins(t);
  linkSync(join(actual, 'plain'), join(actual, '../outside'));
  assert.deepEqual(await compareTrees(expected, actual), ['plain: links: expected 1, actual 2']);
});

test('lists no more differences than asked for', async t => {
  const { expected, actual } = twins(t);
  for (let i = 0; i < 5; i++) writeFileSync(join(actual, `extra${i}`), '');
  const found = await compareTrees(expected, actual, { ignore, differencesMax: 2 });
  assert.deepEqual(found.slice(2), ['more than 2 differences']);
});

test('fails if a tree cannot be read', async t => {
  const { expected, actual } = twins(t);
  await assert.rejects(compareTrees(expected, join(actual, 'absent')), { code: 'ENOENT' });
});

test('leaves the calling thread free', async t => {
  const { expected, actual } = twins(t);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  t.after(() => clearInterval(timer));
  await compareTrees(expected, actual);
  assert.ok(ticks > 5, `${ticks} ticks`);
});
