import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findStartFailure } from '../../src/container/program.ts';
import { readRootFile } from '../../src/container/root-file.ts';
import { resolveUser } from '../../src/container/user.ts';

function root(context: { after(fn: () => void): void }, files: Record<string, string> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-root-'));
  context.after(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'etc'));
  for (const [path, text] of Object.entries(files)) writeFileSync(join(dir, path), text);
  return dir;
}

const passwd = [
  'root:x:0:0::/root:/bin/sh',
  '# a comment',
  'broken:x:abc:0:::',
  'huge:x:99999999999:0:::',
  'web:x:33:34::/srv:/bin/sh',
  '44:x:55:66::/odd:/bin/sh',
  'homeless:x:70:70',
].join('\n');
const group = 'root:x:0:\nlogs:x:35:adm,web\nweb:x:34:web\n99:x:36:\n';

test('users and groups, by name before number', async context => {
  const dir = root(context, { 'etc/passwd': passwd, 'etc/group': group });
  const expected: Record<string, [number, number, number[], string | undefined]> = {
    '': [0, 0, [0], '/root'],
    root: [0, 0, [0], '/root'],
    web: [33, 34, [34, 35], '/srv'],
    '33': [33, 34, [34, 35], '/srv'],
    '33:': [33, 34, [34, 35], '/srv'],
    'web:logs': [33, 35, [35], '/srv'],
    'web:99': [33, 36, [36], '/srv'],
    'web:77': [33, 77, [77], '/srv'],
    '44': [55, 66, [66], '/odd'],
    '1000': [1000, 0, [0], undefined],
    '4294967294:4294967294': [4294967294, 4294967294, [4294967294], undefined],
    homeless: [70, 70, [70], '/'],
  };
  for (const [user, [uid, gid, additionalGids, home]] of Object.entries(expected)) {
    assert.deepEqual(await resolveUser(dir, user), { uid, gid, additionalGids, home }, user);
  }
  const unknown = ['nobody', 'broken', 'huge', '-1', '4294967295', 'web:nogroup', ':', '0x21'];
  for (const user of unknown) {
    await assert.rejects(resolveUser(dir, user), { code: 'NOT_FOUND' }, user);
  }
});

test('an image without accounts has numbers only', async context => {
  const dir = root(context);
  assert.deepEqual(await resolveUser(dir, ''), {
    uid: 0,
    gid: 0,
    additionalGids: [0],
    home: undefined,
  });
  await assert.rejects(resolveUser(dir, 'root'), /does not have it$/);
});

test('links of the image stay within it, and end', async context => {
  const dir = root(context, { 'etc/real': 'inside' });
  const links = {
    'etc/absolute': '/etc/real',
    'etc/above': '../../../../etc/real',
    'etc/outside': '/../../..//proc/self/status',
    'etc/loop': 'loop',
    up: '..',
  };
  for (const [path, target] of Object.entries(links)) symlinkSync(target, join(dir, path));
  for (const path of ['etc/absolute', 'etc/above', 'up/up/etc/real', '/etc/../etc/real']) {
    assert.equal(await readRootFile(dir, path, 100), 'inside', path);
  }
  for (const path of ['etc/outside', 'etc/loop', 'etc/real/below', 'etc', 'missing']) {
    assert.equal(await readRootFile(dir, path, 100), undefined, path);
  }
  assert.equal(await readRootFile(dir, 'etc/real', 3), 'ins');
});

test('programs are looked for as the runtime will', async context => {
  const dir = root(context, { program: '', 'etc/data': '' });
  chmodSync(join(dir, 'program'), 0o711);
  symlinkSync('/program', join(dir, 'etc', 'link'));
  symlinkSync('/bin/sh', join(dir, 'etc', 'host')); // there on the host only
  const status = async (program: string, path: string, workingDirectory: string) =>
    (await findStartFailure(dir, program, { path, workingDirectory }))?.exitStatus;
  assert.equal(await status('/program', '', '/'), undefined);
  assert.equal(await status('./program', '', '/'), undefined);
  assert.equal(await status('../program', '', '/etc'), undefined);
  assert.equal(await status('link', '/none:/etc', '/'), undefined);
  assert.equal(await status('link', '', '/etc'), undefined, 'an empty part is the folder itself');
  assert.equal(await status('program', '/etc', '/'), 127);
  assert.equal(await status('host', '/etc', '/'), 127);
  assert.equal(await status('data', '/etc', '/'), 126);
  assert.equal(await status('/etc', '', '/'), 126);
});
