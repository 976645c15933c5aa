/** The corpus is what system tests and benches stand on: it is built for real, once per cache. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildImage } from '../../bench/corpus/build.ts';
import type { Done } from '../../bench/corpus/definition.ts';
import {
  definitions,
  imageNames,
  imageOf,
  isVersionName,
  versionDefinition,
  versionsOf,
} from '../../bench/corpus/definitions.ts';
import { helloDone } from '../../bench/corpus/hello.ts';
import { Layout, summarizeLayers } from '../../bench/corpus/layout.ts';
import { lockFile } from '../../bench/corpus/lock.ts';
import { lockText } from '../../bench/corpus/npm.ts';
import { formatImageName, parseImageName } from '../../src/recipe/name.ts';
import { runChecked, startCommand } from '../support/processes.ts';

const allVersions = imageNames.flatMap(versionsOf);

test('an image is built on the layers of the image below', async () => {
  const [base, python] = [await buildImage('base'), await buildImage('python')];
  assert.equal(base.layers.length, 1);
  assert.deepEqual(python.layers.slice(0, 1), base.layers);
  assert.equal(python.layers.length, 3);
  assert.ok(python.layers.every(layer => layer.entryCount > 0 && layer.sizeBytes > 0));
});

test('an image has the config of its definition, and one creation time', async () => {
  const { source } = await buildImage('python');
  const { stdout } = await runChecked('skopeo', ['inspect', '--config', source]);
  const config = JSON.parse(stdout);
  assert.deepEqual(config.config.Entrypoint, ['python3']);
  assert.deepEqual(config.config.Cmd, ['/app/main.py']);
  assert.equal(config.config.User, '1000:1000');
  assert.equal(config.config.WorkingDir, '/app');
  assert.ok(config.config.Env.includes('PYTHONDONTWRITEBYTECODE=1'));
  assert.equal(config.rootfs.diff_ids.length, 3);
  for (const { created } of config.history) assert.equal(created, config.created);
});

test('the top layer replaces, deletes, links and carries extended attributes', async () => {
  const { layoutDir, layers } = await buildImage('python');
  const blob = join(layoutDir, 'blobs', ...layers[2]!.digest.split(':'));
  const { stdout } = await runChecked('tar', ['--verbose', '-tzf', blob]);
  assert.match(stdout, / usr\/share\/doc\/\.wh\.python3$/m);
  assert.match(stdout, / etc\/motd$/m);
  assert.match(stdout, / app\/main\.py link to app\/entry\.py$/m);
  assert.match(stdout, / usr\/share\/man -> doc$/m);
  const pax = await runChecked('sh', ['-c', 'gzip -dc "$1" | grep --text xattr', 'sh', blob]);
  assert.match(pax.stdout, /SCHILY\.xattr\.security\.capability=/);
  assert.match(pax.stdout, /SCHILY\.xattr\.user\.origin=corpus/);
});

test('nothing of the machine that built it is in an image', async () => {
  const { layoutDir, layers } = await buildImage('base');
  const blob = join(layoutDir, 'blobs', ...layers[0]!.digest.split(':'));
  const { stdout } = await runChecked('tar', ['-tzf', blob]);
  const names = stdout.split('\n');
  assert.ok(names.includes('./etc/debian_version'));
  for (const name of ['etc/hostname', 'etc/resolv.conf', 'etc/apt/sources.list']) {
    assert.ok(!names.includes(`./${name}`), name);
  }
  assert.deepEqual(
    names.filter(name => /sources\.list\.d\/.|apt\.conf\.d\/99/.test(name)),
    [],
  );
});

test('only names of the corpus are images', () => {
  for (const name of ['python-sci', 'nginx:trixie']) assert.ok(isVersionName(name), name);
  for (const name of ['toString', 'nginx:', 'nginx:toString', 'nginx:all', ':', '']) {
    assert.ok(!isVersionName(name), name);
  }
});

test('the corpus has twelve images and more, most of them in several versions', () => {
  assert.ok(imageNames.length >= 12);
  const several = imageNames.filter(name => versionsOf(name).length >= 2);
  assert.ok(several.length >= 8);
  assert.equal(new Set(allVersions).size, allVersions.length);
  assert.equal(new Set(allVersions.map(name => name.replace(':', '-'))).size, allVersions.length);
});

test('versions are names that imgstore takes, and stand on versions that lie below', () => {
  const known = new Set<string>();
  for (const name of allVersions) {
    const text = name.includes(':') ? name : `${name}:latest`;
    assert.equal(formatImageName(parseImageName(name)), text);
  }
  for (const image of imageNames) {
    for (const name of versionsOf(image)) {
      const { from, withoutTop = 0, archive, layers, stands } = versionDefinition(name);
      assert.ok(from === undefined || known.has(from), `${name}: below it is ${from}`);
      assert.equal(imageOf(name) === 'base', from === undefined);
      assert.ok(archive === undefined || from === undefined, name);
      assert.equal(stands === undefined, name === image, name);
      assert.ok(withoutTop >= 0 && withoutTop <= heightOf(from), name);
      assert.ok(layers.length > 0, name);
      for (const { npm } of layers) {
        if (npm === undefined) continue;
        assert.ok(lockText(npm).length > 0);
        assert.doesNotMatch(lockText(npm), /"resolved"/, `${npm} is of no registry's`);
      }
      known.add(name);
    }
  }
});

/** Layers that lie upon the base. */
function heightOf(name: ReturnType<typeof versionDefinition>['from']): number {
  if (name === undefined) return 0;
  const { from, layers, withoutTop = 0 } = versionDefinition(name);
  return from === undefined ? 0 : heightOf(from) - withoutTop + layers.length;
}

test('every image has a hello, at a port of its own', () => {
  const ports: number[] = [];
  for (const image of imageNames) {
    const { done } = definitions[image].hello;
    assert.ok(done.text.length > 0, image);
    if (done.by !== 'line') ports.push(done.port);
  }
  assert.equal(new Set(ports).size, ports.length);
});

test('a hello is done when the line is printed, and not by a program that ends before', async () => {
  const hello = async (script: string, done: Done) => {
    const { child, result } = startCommand('sh', ['-c', script]);
    await helloDone(done, child, { timeoutMs: 5000 }).finally(() => child.kill('SIGKILL'));
    await result;
  };
  await hello('echo a hel; echo hello you; exec sleep 60', { by: 'line', text: 'hello' });
  await hello('printf hello >&2', { by: 'line', text: 'hello' });
  const line: Done = { by: 'line', text: 'hello' };
  await assert.rejects(hello('echo sorry; exit 3', line), /ended with 3 .*: sorry/);
  const answer: Done = { by: 'tcp', port: 1, text: 'hello' };
  await assert.rejects(hello('echo hello', answer), /ended with 0/);
});

test('a hello is done when the port answers with the text, and not at its first answer', async t => {
  const asked: string[] = [];
  const server = createServer(socket => {
    socket.on('error', () => {});
    socket.once('data', bytes => {
      asked.push(bytes.toString('latin1'));
      socket.end(asked.length < 3 ? 'starting' : 'ready \xe9', 'latin1');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { child, result } = startCommand('sleep', ['60']);
  t.after(async () => {
    child.kill('SIGKILL');
    server.close();
    await result;
  });
  const wait = { timeoutMs: 5000 };
  await helloDone({ by: 'tcp', port, send: 'q\0', text: 'ready \xe9' }, child, wait);
  assert.deepEqual(asked, ['q\0', 'q\0', 'q\0']);
  await helloDone({ by: 'http', port, path: '/p', text: 'ready' }, child, wait);
  assert.match(asked[3]!, /^GET \/p HTTP\/1\.1\r\nHost: 127\.0\.0\.1:\d+\r\n/);
  const never: Done = { by: 'tcp', port, send: 'q', text: 'never' };
  await assert.rejects(helloDone(never, child, { timeoutMs: 100 }), /not done after 100 ms/);
});

test('an image can begin with the lower layers of another', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-layout-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const python = await buildImage('python');
  const layout = new Layout(join(dir, 'layout'), 'lower', 0);
  await layout.createFrom(python, 2);
  await layout.configure({ cmd: ['sh'] });
  assert.deepEqual(await summarizeLayers(layout.dir, python.layers), python.layers.slice(0, 1));
  const image = `oci:${layout.dir}:lower`;
  const { stdout } = await runChecked('skopeo', ['inspect', '--config', image]);
  const { config, rootfs, history } = JSON.parse(stdout);
  assert.deepEqual(config.Cmd, ['sh']);
  assert.equal(config.User, '1000:1000');
  assert.equal(rootfs.diff_ids.length, 1);
  assert.equal(history.length, 1);
  assert.deepEqual((await buildImage('python')).layers, python.layers);
  await runChecked('skopeo', ['inspect', '--config', python.source]);
});

test('a lock is held by one at a time and freed when its holder dies', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-lock-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'lock');
  const script = `
    import { writeFileSync } from 'node:fs';
    import { lockFile } from ${JSON.stringify(import.meta.resolve('../../bench/corpus/lock.ts'))};
    await lockFile(${JSON.stringify(path)});
    writeFileSync(${JSON.stringify(join(dir, 'taken'))}, '');
    setInterval(() => {}, 1000);`;
  const other = startCommand(process.execPath, ['--input-type=module', '--eval', script]);
  const ended = other.result.catch((error: Error) => error);
  while (!existsSync(join(dir, 'taken'))) await sleep(20);
  let taken = false;
  const waiting = lockFile(path).then(lock => {
    taken = true;
    return lock;
  });
  await sleep(200);
  assert.equal(taken, false);
  other.child.kill('SIGKILL');
  await (await waiting)[Symbol.asyncDispose]();
  await ended;
  await using again = await lockFile(path);
  assert.ok(again);
  assert.equal(readFileSync(path, 'utf8'), '');
});
