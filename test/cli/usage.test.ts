/** The contract of the command line: pages of help, exit statuses, one line an error, quiet, JSON. */

import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { helpPage } from '../../src/cli/command.ts';
import { verbs } from '../../src/cli/verbs.ts';
import { createTestHome, runCommand, type TestHome } from '../support/processes.ts';
import { pushSmallImage, writeSmallImage } from '../support/small-images.ts';

const fixtures = join(import.meta.dirname, '..', '..', 'fixtures', 'stores');

/** The exit status, and exactly one line on stderr; nothing on stdout. */
async function assertFails(
  home: TestHome,
  args: readonly string[],
  expected: { exitCode: number; message: RegExp; env?: NodeJS.ProcessEnv },
): Promise<void> {
  const { exitCode, stdout, stderr } = await home.run(args, { env: expected.env ?? {} });
  const shown = `${args.join(' ')}: ${stderr}`;
  assert.match(stderr, /^imgstore: [^\n]+\n$/, shown);
  assert.match(stderr, expected.message, shown);
  assert.doesNotMatch(stderr, /internal error|\bat .*:\d+:\d+/, shown);
  assert.equal(exitCode, expected.exitCode, shown);
  assert.equal(stdout, '', shown);
}

test('every verb has a page that names all of its options', async context => {
  const home = createTestHome(context);
  const overview = await home.runChecked(['--help']);
  for (const [verb, load] of Object.entries(verbs)) {
    const { command } = await load();
    const page = helpPage(verb, command);
    assert.match(overview.stdout, new RegExp(`^  ${verb} +\\S.*$`, 'm'));
    assert.ok(page.startsWith(`Usage: imgstore ${verb} `));
    const options = [...Object.keys(command.options), 'home', 'json', 'quiet', 'help'];
    for (const option of options) assert.match(page, new RegExp(`--${option}\\b`));
    for (const line of page.split('\n')) assert.ok(line.length <= 100, line);
  }
  const { stdout } = await home.runChecked(['mount', '--help', 'ignored']);
  assert.ok(stdout.startsWith('Usage: imgstore mount '));
  assert.equal((await home.runChecked(['help', 'mount'])).stdout, stdout);
  assert.match((await home.runChecked(['--version'])).stdout, /^\d+\.\d+\.\d+\S*\n$/);
  assert.deepEqual(readdirSync(home.dir), []);
});

test('wrong usage is status 2, and touches nothing', async context => {
  const home = createTestHome(context);
  const wrong: [string[], RegExp][] = [
    [['frobnicate'], /no such verb/],
    [['__proto__'], /no such verb/],
    [['mount', 'small'], /an argument is missing/],
    [['ls', 'extra'], /too many arguments, from "extra" on/],
    [['run', 'small', 'sh'], /too many arguments, from "sh" on/],
    [['ls', '--', 'x'], /takes nothing behind --/],
    [['ls', '--frob'], /Unknown option '--frob'/],
    [['ls', '--store'], /--store/],
    [['ls', '--store', ''], /--store is empty/],
    [['ls', '--home='], /--home is empty/],
    [['mount', '--as', 'tree', 'a', 'b'], /no such kind/],
    [['mount', '--as', 'disk', '--rw', 'a', 'b'], /raw disk writable/],
    [['mount', 'a', ''], /DIR is empty/],
    [['key', 'lose'], /no such thing/],
    [['daemon', 'lose'], /no such thing/],
    [['push', 'ftp:x', 'a'], /no known transport/],
    [['ls', '--store', 'ftp://x'], /ftp/],
  ];
  for (const [args, message] of wrong) await assertFails(home, args, { exitCode: 2, message });
  const none = await home.run([]);
  assert.equal(none.exitCode, 2);
  assert.deepEqual(readdirSync(home.dir), []);
});

test('names that are none are refused before anything is made', async context => {
  const home = createTestHome(context);
  const source = writeSmallImage(home, 'source');
  const shown = readdirSync(home.dir);
  const names = ['', '../../etc', '/abs', 'FOO', 'a:b:c', 'a\nb'];
  for (const name of [...names, 'a'.repeat(300)]) {
    const message = /^imgstore: Cannot use "/;
    await assertFails(home, ['push', source, name], { exitCode: 2, message });
  }
  assert.deepEqual(readdirSync(home.dir), shown);
});

test('sources that are none', async context => {
  const home = createTestHome(context);
  writeSmallImage(home, 'source');
  writeFileSync(home.path('text'), 'not an image\n'.repeat(100));
  mkdirSync(home.path('empty'));
  const sources = ['oci:missing', 'oci:empty', 'oci:text', 'oci:layout-source:other', 'disk:empty'];
  for (const source of [
    ...sources,
    'docker-archive:text',
    'docker-archive:empty',
    'disk:missing',
  ]) {
    await assertFails(home, ['push', source, 'x'], { exitCode: 1, message: /Cannot / });
  }
});

test('stores that are gone, read-only, of another format, or something else', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const source = `oci:${home.path('layout-small')}`;
  const missing = { exitCode: 1, message: /no store is there/ };
  await assertFails(home, ['ls', '--store', home.path('missing')], missing);
  await assertFails(home, ['mount', '--store', home.path('missing'), 'small', '.'], missing);
  const other = { exitCode: 1, message: /format 999/ };
  for (const args of [['ls'], ['stats'], ['verify'], ['push', source, 'x']]) {
    await assertFails(home, [...args, '--store', join(fixtures, 'format-999')], other);
  }
  const notOne = { exitCode: 2, message: /other things are there/ };
  await assertFails(home, ['push', '--store', home.dir, source, 'x'], notOne);
  await assertFails(home, ['ls', '--store', `${home.path('layout-small')}/oci-layout`], {
    exitCode: 2,
    message: /it is not a folder/,
  });
});

test('keys: another, none, badly kept', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));
  const env = { IMGSTORE_KEY: 'ab'.repeat(32) };
  await home.runChecked(['inspect', 'small'], { env }); // the key of the file is there as well
  const ownKey = `${home.home}/keys/owner.key`;
  renameSync(ownKey, home.path('kept.key'));
  for (const args of [['inspect'], ['verify'], ['export', 'tar:x']]) {
    const [verb, ...rest] = args as [string, ...string[]];
    const message = /it needs owner key [0-9a-f]{32}, which is not here\. Put it at keys\/owners/;
    await assertFails(home, [verb, 'small', ...rest], { exitCode: 1, message, env });
  }
  const mount = ['mount', 'small', 'mnt'];
  await assertFails(home, mount, { exitCode: 1, message: /needs owner key/, env });
  const secret = /^secret ([0-9a-f]{64})$/m.exec(readFileSync(home.path('kept.key'), 'utf8'))![1]!;
  const late = { exitCode: 1, message: /started without your IMGSTORE_KEY/ };
  await assertFails(home, mount, { ...late, env: { IMGSTORE_KEY: secret } });
  const list = await home.runChecked(['ls'], { env });
  assert.match(list.stdout, /small:latest .* key [0-9a-f]{32}/);
  renameSync(home.path('kept.key'), ownKey);
  await home.runChecked(mount);
  await home.runChecked(['umount', 'mnt']);
  for (const value of ['', 'zz', 'ab'.repeat(31)]) {
    const message = /Cannot use IMGSTORE_KEY: its value is not 64 hexadecimal digits/;
    await assertFails(home, ['ls'], { exitCode: 1, message, env: { IMGSTORE_KEY: value } });
  }
  chmodSync(`${home.home}/keys/owner.key`, 0o644);
  await assertFails(home, ['ls'], { exitCode: 1, message: /mode 0644/ });
  const shown = await home.run(['key', 'show', '--home', home.path('new')]);
  assert.equal(shown.exitCode, 1);
});

test('key generate makes one, and never another in its place', async context => {
  const home = createTestHome(context);
  const made = JSON.parse((await home.runChecked(['key', 'generate', '--json'])).stdout);
  assert.match(made.id, /^[0-9a-f]{32}$/);
  await assertFails(home, ['key', 'generate'], { exitCode: 1, message: /already there/ });
  const shown = JSON.parse((await home.runChecked(['key', 'show', '--json'])).stdout);
  assert.deepEqual(shown, { ...made, held: [], salts: [] });
});

test('a config.json that is wrong', async context => {
  const home = createTestHome(context);
  mkdirSync(home.home);
  for (const text of ['{', '{"frob": 1}', '{"diskCacheMaxBytes": -1}']) {
    writeFileSync(join(home.home, 'config.json'), text);
    for (const args of [['ls'], ['mounts'], ['daemon', 'start']]) {
      const message = /Cannot use .*config\.json: /;
      await assertFails(home, args, { exitCode: 2, message });
    }
  }
});

test('somebody who is not root is told so', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));
  for (const path of [home.dir, home.home]) chmodSync(path, 0o755);
  const script = join(import.meta.dirname, '..', '..', 'src', 'imgstore.mjs');
  const own = home.path('own');
  mkdirSync(own);
  chmodSync(own, 0o777);
  const asNobody = (args: string[], env: NodeJS.ProcessEnv = {}) =>
    runCommand(
      'setpriv',
      ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, script, ...args],
      { env: home.environment(env), cwd: '/' },
    );
  for (const args of [
    ['mount', 'small', home.path('mnt')],
    ['run', 'small'],
    ['daemon', 'start'],
  ]) {
    const { exitCode, stderr } = await asNobody(args, { IMGSTORE_HOME: own });
    assert.equal(exitCode, 1);
    assert.match(stderr, /^imgstore: [^\n]* as user 65534: [^\n]*Run it as root\.\n$/);
  }
  const { exitCode, stderr } = await asNobody(['ls']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /^imgstore: Cannot read [^\n]*: permission denied\. [^\n]*\n$/);
});

test('results as JSON, nothing with --quiet', async context => {
  const home = createTestHome(context);
  const source = writeSmallImage(home, 'small');
  const push = JSON.parse((await home.runChecked(['push', '--json', source, 'small:1'])).stdout);
  const numbers = ['diskBytes', 'chunks', 'newChunks', 'storedBytes', 'newStoredBytes', 'seconds'];
  for (const field of numbers) assert.equal(typeof push[field], 'number', field);
  assert.equal(push.name, 'small:1');
  assert.match(push.recipe, /^[0-9a-f]{64}$/);
  assert.ok(push.newChunks > 0 && push.newChunks === push.chunks);
  const again = JSON.parse((await home.runChecked(['push', '--json', source, 'again'])).stdout);
  assert.deepEqual([again.newChunks, again.newStoredBytes, again.recipe], [0, 0, push.recipe]);

  mkdirSync(home.path('mnt'));
  const mount = JSON.parse((await home.runChecked(['mount', '--json', 'again', 'mnt'])).stdout);
  const [mounted] = JSON.parse((await home.runChecked(['mounts', '--json'])).stdout);
  for (const info of [mount, mounted]) {
    assert.deepEqual([info.name, info.dir], ['again:latest', home.path('mnt')]);
    for (const field of ['diskBytes', 'bytesRead', 'chunksFetched', 'storedBytesFetched']) {
      assert.equal(typeof info[field], 'number', field);
    }
    assert.equal(typeof info.hits, 'object');
    assert.equal(info.folder, undefined);
  }
  const documents: [string[], (document: never) => void][] = [
    [
      ['ls'],
      (names: { name: string; state: string }[]) => {
        assert.deepEqual(
          names.map(({ name, state }) => [name, state]),
          [
            ['again:latest', 'readable'],
            ['small:1', 'readable'],
          ],
        );
      },
    ],
    [
      ['inspect', 'again'],
      (image: { config: { config: object }; shared: object[] }) => {
        assert.deepEqual(image.config.config, { Cmd: ['/bin/sh'], Env: ['PATH=/bin'] });
        assert.deepEqual(image.shared, [
          { name: 'small:1', chunks: push.chunks, storedBytes: push.storedBytes },
        ]);
      },
    ],
    [
      ['stats'],
      (stats: { chunks: number; names: number; storedBytes: number }) => {
        assert.deepEqual([stats.chunks, stats.names], [push.chunks, 2]);
        assert.equal(stats.storedBytes, push.storedBytes);
      },
    ],
    [['verify', 'again'], ({ images }: { images: object[] }) => assert.equal(images.length, 1)],
    [['daemon', 'status'], (status: { mounts: number }) => assert.equal(status.mounts, 1)],
    [
      ['export', 'again', 'tar:out.tar'],
      (exported: { name: string }) => {
        assert.equal(exported.name, 'again:latest');
      },
    ],
    [['umount', 'mnt'], (answer: { dir: string }) => assert.equal(answer.dir, home.path('mnt'))],
    [['rm', 'again'], (answer: { removed: boolean }) => assert.equal(answer.removed, true)],
  ];
  for (const [args, check] of documents) {
    check(JSON.parse((await home.runChecked([...args, '--json'])).stdout) as never);
  }
  for (const args of [['push', source, 'quiet'], ['ls'], ['stats'], ['verify'], ['rm', 'quiet']]) {
    const { stdout, stderr } = await home.runChecked([...args, '--quiet']);
    assert.deepEqual([stdout, stderr], ['', ''], args.join(' '));
  }
  for (const verb of ['rm', 'verify', 'inspect']) {
    await assertFails(home, [verb, 'again'], { exitCode: 1, message: /no such name/ });
  }
});
