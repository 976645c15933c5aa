/** The corpus is what system tests and benches stand on: it is built for real, once per cache. */

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildImage, isImageName } from '../../bench/corpus/build.ts';
import { lockFile } from '../../bench/corpus/lock.ts';
import { runChecked, startCommand } from '../support/processes.ts';

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
  assert.ok(isImageName('python-sci'));
  assert.ok(!isImageName('toString'));
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
