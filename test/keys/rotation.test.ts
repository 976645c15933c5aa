import assert from 'node:assert/strict';
import { cpSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { generateOwnerKey, heldKeyIds } from '../../src/keys/owner-files.ts';
import { ownerKeys } from '../../src/keys/owner-keys.ts';
import { beginRotation, finishRotation, unfinishedRotation } from '../../src/keys/rotation.ts';
import { rejectsWith, testKeys } from './support.ts';

test('a rotation: a new key seals, the old one is kept, nothing else stays', async t => {
  const source = testKeys(t);
  const { id } = await generateOwnerKey(source);
  const rotation = await beginRotation(source);
  assert.equal(rotation.from.id, id);
  assert.notEqual(rotation.to.id, id);
  assert.equal(rotation.continued, false);
  assert.deepEqual(await unfinishedRotation(source), { from: id, to: rotation.to.id });
  const keys = ownerKeys({ ...source, create: false });
  assert.equal((await keys.current()).id, rotation.to.id);
  assert.deepEqual((await keys.find(id))?.bytes, rotation.from.bytes);
  await finishRotation(source, rotation);
  assert.equal(await unfinishedRotation(source), undefined);
  assert.deepEqual(readdirSync(source.directory).sort(), ['owner.key', 'owners']);
  assert.deepEqual(await heldKeyIds(source), [id]);
  assert.deepEqual((await keys.find(rotation.to.id))?.bytes, rotation.to.bytes);
});

test('one that was not finished is carried on, however often', async t => {
  const source = testKeys(t);
  await generateOwnerKey(source);
  const first = await beginRotation(source);
  for (const _ of ['once', 'twice']) {
    const again = await beginRotation(source);
    assert.equal(again.continued, true);
    assert.equal(again.from.id, first.from.id);
    assert.equal(again.to.id, first.to.id);
  }
  await finishRotation(source, first);
  await finishRotation(source, first);
  const next = await beginRotation(source);
  assert.equal(next.from.id, first.to.id);
  assert.equal(next.continued, false);
});

/**
 * What a rotation leaves on the disk at each moment: its files appear and go one by one, so every
 * state is made of those before and after. Whatever is left, both keys are found and it goes on.
 */
test('a crash after each step of a rotation', async t => {
  const before = testKeys(t);
  const { id: from } = await generateOwnerKey(before);
  const after = testKeys(t);
  cpSync(before.directory, after.directory, { recursive: true });
  const { to } = await beginRotation(after);
  const next = `owners/${to.id}.key`;
  const old = `owners/${from}.key`;
  const states: readonly (readonly [present: string[], own: string])[] = [
    [[next], from],
    [[next, 'rotation'], from],
    [[next, 'rotation', old], from],
    [[next, 'rotation', old], to.id],
    [['rotation', old], to.id],
  ];
  for (const [present, own] of states) {
    const source = testKeys(t);
    cpSync((own === from ? before : after).directory, source.directory, { recursive: true });
    rmSync(source.path('owners'), { recursive: true, force: true });
    rmSync(source.path('rotation'), { force: true });
    for (const path of present) cpSync(after.path(path), source.path(path));
    const keys = ownerKeys({ ...source, create: false });
    assert.equal((await keys.current()).id, own);
    for (const id of own === from ? [from] : [from, to.id]) {
      assert.equal((await keys.find(id))?.id, id);
    }
    const rotation = await beginRotation(source);
    const begun = present.includes('rotation');
    assert.equal(rotation.continued, begun, present.join(' '));
    assert.equal(rotation.from.id, from);
    assert.equal(rotation.to.id === to.id, begun);
    await finishRotation(source, rotation);
    assert.equal((await keys.current()).id, rotation.to.id);
    assert.equal((await keys.find(from))?.id, from);
  }
});

test('of several rotations at once one happens, and all carry it on', async t => {
  const source = testKeys(t);
  const { id } = await generateOwnerKey(source);
  const rotations = await Promise.all(Array.from({ length: 8 }, () => beginRotation(source)));
  assert.deepEqual([...new Set(rotations.map(({ from }) => from.id))], [id]);
  assert.equal(new Set(rotations.map(({ to }) => to.id)).size, 1);
  for (const rotation of rotations) await finishRotation(source, rotation);
  assert.deepEqual(await heldKeyIds(source), [id], 'no key that nobody uses is left');
});

test('refused: no key, one of the environment, a plan that is damaged or of other keys', async t => {
  const source = testKeys(t);
  await rejectsWith(beginRotation(source), 'KEY', /there is no .*owner\.key/);
  const { id } = await generateOwnerKey(source);
  const env = { IMGSTORE_KEY: 'ab'.repeat(32) };
  await rejectsWith(beginRotation({ ...source, env }), 'USAGE', /Unset IMGSTORE_KEY/);
  assert.deepEqual(readdirSync(source.directory), ['owner.key']);

  const path = source.path('rotation');
  for (const text of ['', 'imgstore key-rotation 2\n', `imgstore key-rotation 1\nfrom ${id}\n`]) {
    writeFileSync(path, text, { mode: 0o600 });
    await rejectsWith(beginRotation(source), 'KEY', /no plan of a rotation.*Remove that file/);
  }
  const plan = `imgstore key-rotation 1\nfrom ${'a'.repeat(32)}\nto ${'b'.repeat(32)}\n`;
  writeFileSync(path, plan, { mode: 0o600 });
  await rejectsWith(beginRotation(source), 'KEY', /needs owner key [ab]{32}/);
  unlinkSync(path);

  await beginRotation(source);
  rmSync(source.path('owner.key'));
  const own = await generateOwnerKey(source);
  await rejectsWith(beginRotation(source), 'KEY', new RegExp(`other keys than .*${own.id}`));
  assert.equal((await ownerKeys({ ...source, create: false }).current()).id, own.id);
});
