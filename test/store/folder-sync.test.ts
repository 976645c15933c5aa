import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FolderSync } from '../../src/store/folder-sync.ts';
import { seeded } from '../support/random.ts';

test('every request is covered by a sync that starts after it, and few are made', async () => {
  for (const random of seeded(50)) {
    let clock = 0;
    let syncs = 0;
    let running = 0;
    const lastStart = new Map<string, number>();
    const folders = new FolderSync(async folder => {
      const start = clock++;
      syncs++;
      assert.equal(++running <= 2, true, 'one at a time in each folder');
      for (let turns = random.below(4); turns > 0; turns--) await nextTurn();
      running--;
      lastStart.set(folder, start);
    });
    const requests: Promise<void>[] = [];
    for (let i = 0; i < 60; i++) {
      const folder = random.pick(['a', 'b']);
      const asked = clock++;
      const covered = () => assert.ok(lastStart.get(folder)! > asked, `seed ${random.seed}`);
      requests.push(folders.sync(folder).then(covered));
      if (random.chance(0.3)) await nextTurn();
    }
    await Promise.all(requests);
    assert.ok(syncs < 60, `seed ${random.seed}: ${syncs} syncs`);
  }
});

test('a failed sync fails those that it was for, and the next one is made all the same', async () => {
  let syncs = 0;
  const folders = new FolderSync(async () => {
    await nextTurn();
    if (++syncs === 1) throw new Error('broken');
  });
  const first = folders.sync('a');
  const second = folders.sync('a');
  await assert.rejects(first, /broken/);
  await second;
  await folders.sync('a');
  assert.equal(syncs, 3);
});

test('a folder that is gone needs no sync', async () => {
  await new FolderSync().sync('/nonexistent/folder');
});
