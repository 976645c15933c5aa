/** `verify` through the command line: several images, repairs, scrubs. */

import assert from 'node:assert/strict';
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createTestHome, type TestHome } from '../support/processes.ts';
import { Random, seeded } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { noise, pushSmallImage, writeSmallImage } from '../support/small-images.ts';

interface Image {
  name: string;
  recipe?: string;
  chunks: number;
  checkedChunks: number;
  faults: { chunk?: string; problem: string }[];
  repaired?: { putChunks: number; putRecipe: boolean; recipeBefore: string; faults: object[] };
}

interface Answer {
  images: Image[];
  checkedChunks: number;
  checkedBytes: number;
  seconds: number;
}

/** The files of the store's objects, by the part of it. */
function objects(home: TestHome, part: 'chunks' | 'recipes' | 'names'): string[] {
  const store = join(home.home, 'store');
  return readdirSync(store, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .filter(path => path.includes(`/${part}/`))
    .sort();
}

async function verify(home: TestHome, args: readonly string[], exitCode = 0): Promise<Answer> {
  const result = await home.run(['verify', '--json', ...args]);
  assert.equal(result.exitCode, exitCode, result.stderr);
  return JSON.parse(result.stdout) as Answer;
}

async function assertFails(
  home: TestHome,
  args: readonly string[],
  expected: { exitCode: number; message: RegExp },
): Promise<void> {
  const { exitCode, stdout, stderr } = await home.run(['verify', '--quiet', ...args]);
  assert.match(stderr, /^imgstore: [^\n]+\n$/);
  assert.match(stderr, expected.message);
  assert.equal(exitCode, expected.exitCode, args.join(' '));
  assert.equal(stdout, '');
}

async function exported(home: TestHome, name: string): Promise<Buffer> {
  const path = home.path('exported');
  rmSync(path, { force: true });
  await home.runChecked(['export', '--quiet', name, `disk:${path}`]);
  return readFileSync(path);
}

const damages: ((path: string, random: Random) => void)[] = [
  path => rmSync(path),
  (path, random) => truncateSync(path, random.below(readFileSync(path).length)),
  path => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.from('x')])),
  (path, random) => {
    const bytes = readFileSync(path);
    bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    writeFileSync(path, bytes);
  },
];

test('several images: chunks that they share are fetched once, and what it cost is told', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'a');
  await pushSmallImage(home, 'b', { config: { Cmd: ['/bin/true'] } });
  await pushSmallImage(home, 'c', { entries: [{ path: 'x', content: 'x' }] });
  const all = await verify(home, []);
  const byName = new Map(all.images.map(image => [image.name, image]));
  const [a, b, c] = ['a:latest', 'b:latest', 'c:latest'].map(name => byName.get(name)!);
  assert.equal(all.images.length, 3);
  assert.equal(a!.checkedChunks + b!.checkedChunks, a!.chunks);
  assert.equal(all.checkedChunks, a!.chunks + c!.chunks);
  assert.ok(all.checkedBytes > noise.length && all.seconds > 0);

  const some = await verify(home, ['c', 'b', `a@${a!.recipe}`]);
  assert.deepEqual(
    some.images.map(({ name }) => name),
    ['c:latest', 'b:latest', 'a:latest'],
  );
  const { stdout, stderr } = await home.runChecked(['verify', 'c', 'a']);
  assert.match(
    stdout,
    /^c:latest is whole: 1 chunk, .*\na:latest is whole: \d+ chunks, .* MiB\nChecked \d+ chunks, .*, in \d+\.\d s \(.*\/s\)\n$/,
  );
  assert.equal(stderr, 'Verifying c:latest\nVerifying a:latest\n');
  await assertFails(home, ['a', 'gone'], { exitCode: 1, message: /no such name/ });
  const pin = { exitCode: 1, message: new RegExp(`not ${c!.recipe}`) };
  await assertFails(home, [`a@${c!.recipe}`], pin);

  for (const path of objects(home, 'chunks')) rmSync(path);
  const lost = await verify(home, [], 1);
  for (const { name, chunks } of all.images) {
    const { faults } = lost.images.find(image => image.name === name)!;
    assert.equal(faults.length, chunks);
    assert.ok(faults.every(({ problem }) => problem === 'it is not in the store'));
  }
});

test('random damage is found exactly, and repaired exactly', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const source = `oci:${home.path('layout-small')}`;
  const before = await exported(home, 'small');
  const { images } = await verify(home, []);
  const paths = objects(home, 'chunks');
  const [recipe] = objects(home, 'recipes');
  const contents = new Map([...paths, recipe!].map(path => [path, readFileSync(path)]));
  for (const random of seeded(3)) {
    const broken = paths.filter(() => random.chance(0.4));
    for (const path of broken) random.pick(damages)(path, random);
    const recipeIsBroken = random.seed === 2;
    if (recipeIsBroken) random.pick(damages)(recipe!, random);
    const found = await verify(home, ['small'], 1);
    const ids = found.images[0]!.faults.map(({ chunk }) => chunk);
    const expected = broken.map(path => path.slice(-64));
    assert.deepEqual(ids.sort(), recipeIsBroken ? [undefined] : expected.sort());

    const mended = await verify(home, ['small', '--repair', '--from', source]);
    const [image] = mended.images;
    assert.deepEqual(image!.faults, []);
    assert.equal(image!.recipe, images[0]!.recipe);
    assert.equal(image!.repaired!.putChunks, broken.length, `seed ${random.seed}`);
    assert.equal(image!.repaired!.putRecipe, recipeIsBroken);
    assert.equal(image!.repaired!.faults.length, recipeIsBroken ? 1 : broken.length);
    for (const [path, bytes] of contents) assertSameBytes(readFileSync(path), bytes);
  }
  assertSameBytes(await exported(home, 'small'), before);
  assert.deepEqual(objects(home, 'chunks'), paths);

  rmSync(paths[0]!);
  const shown = await home.runChecked(['verify', 'small', '--repair', '--from', source]);
  assert.match(shown.stdout, /^small:latest was damaged \(\d+ chunks, 1 fault\)\n {2}chunk /);
  assert.match(shown.stdout, /\nRepaired: put 1 chunk, .*\nsmall:latest is whole: .*\nChecked /);
  const whole = await verify(home, ['small', '--repair', '--from', 'oci:/not/looked/at']);
  assert.equal(whole.images[0]!.repaired, undefined);
});

test('a raw disk is repaired from its file', async context => {
  const home = createTestHome(context);
  const path = home.path('raw');
  writeFileSync(path, Buffer.concat([noise, Buffer.alloc(2_000_000), noise.subarray(5)]));
  await home.runChecked(['push', '--quiet', `disk:${path}`, 'raw']);
  const before = await exported(home, 'raw');
  const [first, , third] = objects(home, 'chunks');
  for (const chunk of [first!, third!]) rmSync(chunk);
  writeFileSync(home.path('other'), noise.subarray(0, 600_000));
  const other = ['raw', '--repair', '--from', `disk:${home.path('other')}`];
  await assertFails(home, other, { exitCode: 2, message: /holds other data than what was pushed/ });
  assert.ok(!existsSync(first!));
  const { images } = await verify(home, ['raw', '--repair', '--from', `disk:${path}`]);
  assert.equal(images[0]!.repaired!.putChunks, 2);
  assertSameBytes(await exported(home, 'raw'), before);
});

test('a repair that cannot be: another source, another salt, no source, a lost name', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const source = `oci:${home.path('layout-small')}`;
  const other = writeSmallImage(home, 'other', { entries: [{ path: 'x', content: 'x' }] });
  const [chunk] = objects(home, 'chunks');
  rmSync(chunk!);
  const from = (where: string) => ['small', '--repair', '--from', where];
  await assertFails(home, from(other), {
    exitCode: 2,
    message: /it is of manifest sha256:[0-9a-f]{64}, and oci:.*other is sha256:[0-9a-f]{64}/,
  });
  await assertFails(home, from('oci:missing'), { exitCode: 1, message: /missing/ });
  await assertFails(home, from('ftp:x'), { exitCode: 2, message: /no known transport/ });
  const salt = join(home.home, 'keys', 'dedup.salt');
  renameSync(salt, `${salt}.away`);
  const noSalt = /Cannot find dedup salt [0-9a-f]{32} of the default domain/;
  await assertFails(home, from(source), { exitCode: 1, message: noSalt });
  const [recipe] = objects(home, 'recipes');
  renameSync(recipe!, `${recipe}.away`);
  await assertFails(home, from(source), { exitCode: 1, message: /no dedup salt is here/ });
  assert.ok(!existsSync(salt), 'a repair makes no salt');
  renameSync(`${salt}.away`, salt);
  await assertFails(home, from(other), { exitCode: 2, message: /recipe [0-9a-f]{64} is lost/ });
  renameSync(`${recipe}.away`, recipe!);
  const [name] = objects(home, 'names');
  const record = readFileSync(name!);
  writeFileSync(name!, '{}');
  await assertFails(home, from(source), { exitCode: 1, message: /record.*Push the image again/ });
  writeFileSync(name!, record);
  assert.ok(!existsSync(chunk!));
  await home.runChecked(['verify', ...from(source)]);
});

test('a scrub takes no key, and tells what is wrong in the whole store', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  await pushSmallImage(home, 'again');
  const [lost, ...rest] = objects(home, 'chunks'); // not of the image that is removed
  await pushSmallImage(home, 'gone', { entries: [{ path: 'x', content: 'x' }] });
  const others = { env: { IMGSTORE_KEY: 'ab'.repeat(32) } };
  const source = writeSmallImage(home, 'other');
  await home.runChecked(['push', '--quiet', source, 'theirs'], others);
  await home.runChecked(['rm', 'gone']);
  renameSync(join(home.home, 'keys'), home.path('keys'));
  const whole = await home.runChecked(['verify', '--scrub']);
  assert.match(
    whole.stdout,
    /^Checked \d+ chunks, .*; 3 recipes, 3 names, 1 root: nothing is wrong\n$/,
  );
  assert.match(whole.stderr, /^Scrubbing root r0001: \d+ chunks, 3 recipes\n$/);

  rmSync(lost!);
  for (const path of rest.slice(0, 2)) damages[3]!(path, new Random(1));
  writeFileSync(join(home.home, 'store', 'roots', 'r0001', 'recipes', 'no\nte'), 'x');
  const { exitCode, stdout } = await home.run(['verify', '--scrub']);
  assert.equal(exitCode, 1);
  const lines = stdout.split('\n');
  assert.equal(lines.length, 6);
  const needed = /needed by (?:again|small|theirs):latest, .*:latest, .*:latest\)$/;
  for (const path of [lost!, ...rest.slice(0, 2)]) {
    const line = lines.find(text => text.includes(path.slice(-64)))!;
    assert.ok(line.startsWith('roots/r0001/chunks/'));
    assert.match(line, path === lost ? /it is not in the store \(/ : /its SHA-256 is another \(/);
    assert.match(line, needed);
  }
  assert.equal(lines[3], 'roots/r0001/recipes/no\\nte: not an object of imgstore');
  assert.match(lines[4]!, /: 3 faults$/);

  const answer = await home.run(['verify', '--scrub', '--json']);
  const report = JSON.parse(answer.stdout) as { faults: { names: string[] }[]; foreign: string[] };
  assert.equal(report.faults.length, 3);
  assert.deepEqual(report.faults[0]!.names.sort(), [
    'again:latest',
    'small:latest',
    'theirs:latest',
  ]);
  assert.deepEqual(report.foreign, ['roots/r0001/recipes/no\nte']);
  assert.ok(!existsSync(join(home.home, 'keys')));

  renameSync(home.path('keys'), join(home.home, 'keys'));
  const from = `oci:${home.path('layout-small')}`;
  await home.runChecked(['verify', 'small', '--repair', '--from', from]);
  assert.equal((await home.run(['verify', '--scrub', '--quiet'])).exitCode, 0);
});

test('wrong usage', async context => {
  const home = createTestHome(context);
  const wrong: [string[], RegExp][] = [
    [['--repair', '--from', 'oci:x'], /--repair takes one NAME/],
    [['--repair', '--from', 'oci:x', 'a', 'b'], /--repair takes one NAME/],
    [['--repair', 'a'], /--repair takes --from SOURCE/],
    [['--from', 'oci:x', 'a'], /--from goes with --repair/],
    [['--platform', 'linux/arm64'], /--platform goes with --repair/],
    [['--plain-http'], /--plain-http goes with --repair/],
    [['--scrub', 'a'], /--scrub takes no NAME/],
    [['--scrub', '--repair', 'a', '--from', 'oci:x'], /exclude each other/],
    [['a@b'], /not a recipe id/],
  ];
  for (const [args, message] of wrong) await assertFails(home, args, { exitCode: 2, message });
  assert.deepEqual(readdirSync(home.dir), []);
});
