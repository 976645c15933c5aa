import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { leaseAgeMaxMs } from '../../src/base/limits.ts';
import { RootLease } from '../../src/store/lease.ts';
import { Roots } from '../../src/store/roots.ts';
import { isFault } from '../contract/object-store.ts';
import { rootsOf } from '../support/catalogs.ts';
import { WatchedStore } from '../support/watched-store.ts';
import {
  assertExact,
  assertReadable,
  assertWhole,
  brief,
  ClockedStore,
  type Contents,
  chunkOf,
  gc,
  hourMs,
  keysOf,
  plan,
  push,
  remove,
} from './support.ts';

let store: ClockedStore;
const [a, b]: Contents[] = [
  ['base', 'shared', 'a'],
  ['base', 'shared', 'b'],
];

/** Two images that share two chunks of three; the second is forgotten. */
beforeEach(async () => {
  store = new ClockedStore();
  await push(store, 'a', a!);
  await push(store, 'b', b!);
  await remove(store, 'b');
  store.nowMs += 1;
});

test('without garbage nothing is done', async () => {
  await push(store, 'b', b!);
  const before = keysOf(store);
  const { steps, problems } = await gc(store);
  assert.deepEqual(steps, []);
  assert.deepEqual(problems, []);
  assert.deepEqual(keysOf(store), [...before, 'clock'].sort());
});

test('without grace one collection goes all the way', async () => {
  const { steps } = await gc(store);
  assert.deepEqual(brief(steps), ['open r0002', 'copy r0002', 'expire r0001', 'delete r0001']);
  assert.deepEqual(steps[1], {
    ...{ do: 'copy', root: 'r0002' },
    usage: { chunks: 3, chunkBytes: 32, recipes: 1, recipeBytes: recipeBytes() },
  });
  await assertExact(store, new Map([['a', a!]]));
  assert.deepEqual((await gc(store)).steps, []);
});

function recipeBytes(): number {
  const [key] = keysOf(store).filter(text => text.includes('/recipes/'));
  return store.objects.get(key!)!.bytes.length;
}

test('the plan is what is done', async () => {
  const { steps: planned } = await plan(store);
  const before = keysOf(store);
  const { steps } = await gc(store);
  assert.deepEqual(brief(planned), brief(steps));
  assert.deepEqual(planned[0], steps[0]);
  assert.deepEqual(planned[1], steps[1]);
  const [, , , deletion] = steps;
  assert.deepEqual(planned[3], deletion);
  assert.ok(deletion?.do === 'delete' && deletion.objects === 6 && deletion.garbageBytes > 0);
  assert.ok(before.includes('clock') && before.length === 6 + 1 + 3, 'a plan changes nothing');
});

test('with a grace each step waits for its time, and readers go on', async () => {
  const graceMs = 24 * hourMs;
  const reader = new Roots(store);
  await assertWhole(reader, 'a', a!);
  const stepsAfter = async (ms: number) => {
    store.nowMs += ms;
    const { steps } = await gc(store, { graceMs });
    await assertWhole(store, 'a', a!);
    await assertReadable(reader, a!, 'an old view');
    return brief(steps);
  };
  assert.deepEqual(await stepsAfter(0), ['open r0002', 'copy r0002', 'wait r0001 grace']);
  assert.deepEqual(await stepsAfter(graceMs - 1), ['wait r0001 grace']);
  assert.deepEqual(await stepsAfter(1), ['expire r0001', 'wait r0001 grace']);
  assert.deepEqual(await stepsAfter(graceMs - 1), ['wait r0001 grace']);
  assert.deepEqual(await stepsAfter(1), ['delete r0001']);
  assert.deepEqual(await stepsAfter(0), []);
  await assertExact(store, new Map([['a', a!]]));
});

test('no root is opened while another is on its way out', async () => {
  const graceMs = 24 * hourMs;
  await gc(store, { graceMs });
  await push(store, 'c', ['c']);
  await remove(store, 'c');
  store.nowMs += 1;
  const { steps } = await gc(store, { graceMs });
  assert.deepEqual(brief(steps), ['wait r0001 grace', 'wait r0002 root']);
  store.nowMs += graceMs;
  await gc(store, { graceMs });
  store.nowMs += graceMs;
  const last = await gc(store, { graceMs });
  const together = ['open r0003', 'copy r0003', 'delete r0001', 'wait r0002 grace'];
  assert.deepEqual(brief(last.steps), together);
});

test('a store whose last name is gone ends empty', async () => {
  await remove(store, 'a');
  const { steps } = await gc(store);
  assert.deepEqual(brief(steps), ['open r0002', 'expire r0001', 'delete r0001']);
  await assertExact(store, new Map());
});

test('a push that runs holds its root; one that is dead does not', async () => {
  const lease = await RootLease.take(rootsOf(store), undefined);
  const { segment, sealed } = chunkOf('pushed later');
  const steps = ['open r0002', 'copy r0002', 'wait r0001 push'];
  assert.deepEqual(brief((await gc(store)).steps), steps);
  await lease.root.chunks.put(`xx/${segment.id}`, sealed, { ifAbsent: true });
  assert.deepEqual(brief((await gc(store)).steps), ['wait r0001 push']);
  store.nowMs += leaseAgeMaxMs + 1;
  assert.deepEqual(brief((await gc(store)).steps), ['expire r0001', 'delete r0001']);
  await assert.rejects(lease.check(), isFault('BUSY', /was collected/));
  await lease[Symbol.asyncDispose]();
  await assertExact(store, new Map([['a', a!]]));
});

test('what a running push has put is not garbage, and what it finds there may be', async () => {
  await gc(store);
  store.nowMs += 1;
  const lease = await RootLease.take(rootsOf(store), undefined);
  const { segment, sealed } = chunkOf('new');
  await lease.root.chunks.put(`${segment.id.slice(0, 2)}/${segment.id}`, sealed, {
    ifAbsent: true,
  });
  const found = await plan(store);
  assert.deepEqual(found.steps, []);
  assert.equal(found.survey.roots[0].holds.chunks, 4);
  assert.equal(found.survey.roots[0].heldSince?.getTime(), store.nowMs);
  await lease[Symbol.asyncDispose]();
  assert.equal((await plan(store)).survey.roots[0].garbage.chunks, 1);
});

test('the alarm of a read from an expired root keeps the root', async () => {
  const graceMs = hourMs;
  const reader = new Roots(store);
  await reader.view();
  await gc(store, { graceMs });
  store.nowMs += graceMs;
  await gc(store, { graceMs });
  store.nowMs += graceMs;
  // A mount of the image that was forgotten: its own chunk is in the old root alone.
  await reader.refresh();
  await assertReadable(reader, b!, 'mounted before');
  assert.deepEqual(keysOf(store, 'states/'), [
    'states/r0001.alarm',
    'states/r0001.expired',
    'states/r0001.opened',
    'states/r0002.opened',
  ]);
  assert.deepEqual(brief((await gc(store, { graceMs })).steps), ['revive r0001']);
  assert.deepEqual(keysOf(store, 'states/'), ['states/r0001.opened', 'states/r0002.opened']);
  await assertReadable(reader, b!, 'mounted before');
  const again = ['expire r0001', 'wait r0001 grace'];
  assert.deepEqual(brief((await gc(store, { graceMs })).steps), again);
  await reader.refresh();
  await assertReadable(reader, b!, 'the second expiration is another alarm');
  assert.deepEqual(brief((await gc(store, { graceMs })).steps), ['revive r0001']);
});

test('a revival that is cut off leaves no expired root without its alarm', async () => {
  for (const lastCall of ['states/r0001.expired', 'states/r0001.alarm']) {
    for (const when of ['before', 'after']) {
      for (const [root, fact] of [
        ['r0002', 'opened'],
        ['r0001', 'expired'],
        ['r0001', 'alarm'],
      ]) {
        await store.put(`states/${root}.${fact}`, Buffer.alloc(0), { ifAbsent: true });
      }
      const watched = new WatchedStore(store, async ({ kind, key }, work) => {
        const isLast = kind === 'remove' && key === lastCall;
        if (!isLast || when === 'after') await work();
        if (isLast) throw new Error('cut off');
      });
      await assert.rejects(gc(watched, { graceMs: hourMs }), /cut off/);
      const left = keysOf(store, 'states/r0001.');
      const isKept = !left.includes('states/r0001.expired') || left.includes('states/r0001.alarm');
      assert.ok(isKept, `${left}`);
      const { steps } = await gc(store);
      const isRevived = left.includes('states/r0001.alarm');
      assert.equal(brief(steps).includes('revive r0001'), isRevived);
      if (!isRevived) return;
      await assertReadable(new Roots(store), b!, 'mounted before');
    }
  }
  assert.fail('the last removal ends it');
});

test('an alarm that comes between a look and the deletion stops it', async () => {
  let wasRead = false;
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    await work();
    if (kind !== 'put' || key !== 'states/r0001.expired') return;
    await assertReadable(new Roots(store), b!, 'mounted');
    wasRead = true;
  });
  const { steps } = await gc(watched);
  assert.ok(wasRead);
  const revived = ['open r0002', 'copy r0002', 'expire r0001', 'revive r0001'];
  assert.deepEqual(brief(steps), revived);
  await assertReadable(new Roots(store), b!, 'still there');
});

test('a name that cannot be told keeps everything', async () => {
  for (const text of ['{"version":2}', 'not a record', ' '.repeat(70_000)]) {
    await store.put('names/odd/@latest', Buffer.from(text), { ifAbsent: false });
    const before = keysOf(store);
    const { steps, problems } = await gc(store);
    assert.deepEqual(brief(steps), ['wait r0001 names']);
    assert.deepEqual(
      problems.map(({ what, names }) => [what, names]),
      [['name-untold', ['odd:latest']]],
    );
    assert.deepEqual(keysOf(store), [...new Set([...before, 'clock'])].sort());
  }
  await remove(store, 'odd');
  await gc(store);
  await assertExact(store, new Map([['a', a!]]));
});

test('a name that becomes untold during a collection stops what would follow', async () => {
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    await work();
    if (kind !== 'copy' || !key.includes('/recipes/')) return;
    await store.put('names/odd/@latest', Buffer.from('damaged'), { ifAbsent: false });
  });
  // It was not there at the look before the expiration, and is at the one before the deletion.
  const { steps } = await gc(watched);
  const upTo = ['open r0002', 'copy r0002', 'expire r0001', 'wait r0001 names'];
  assert.deepEqual(brief(steps), upTo);
});

test('a damaged recipe keeps everything, unless another root has it whole', async () => {
  const lease = await RootLease.take(rootsOf(store), undefined);
  await gc(store); // a is in both roots now
  await lease[Symbol.asyncDispose]();
  const [old, young] = keysOf(store).filter(key => key.endsWith(recipeIdOfA()));
  const { bytes } = store.objects.get(old!)!;
  const damaged = Buffer.from(bytes);
  damaged[damaged.length - 1]! ^= 1;
  await store.put(young!, damaged, { ifAbsent: false });
  await store.put(old!, damaged, { ifAbsent: false });
  const blocked = await gc(store);
  assert.deepEqual(brief(blocked.steps), ['wait r0001 names', 'wait r0002 names']);
  assert.match(blocked.problems[0]!.problem, /its bytes have the id/);
  assert.deepEqual(blocked.problems[0]!.names, ['a:latest']);
  await store.put(old!, bytes, { ifAbsent: false });
  const { steps, problems } = await gc(store);
  assert.deepEqual(brief(steps), ['copy r0002', 'expire r0001', 'delete r0001']);
  assert.deepEqual(problems, []);
  await assertExact(store, new Map([['a', a!]]));
});

function recipeIdOfA(): string {
  return JSON.parse(store.objects.get('names/a/@latest')!.bytes.toString()).recipe;
}

test('lost chunks are reported, and the rest is collected', async () => {
  await push(store, 'c', ['base', 'c1', 'c2']);
  store.nowMs += 1;
  for (const text of ['c1', 'c2']) {
    const { id } = chunkOf(text).segment;
    store.objects.delete(`roots/r0001/chunks/${id.slice(0, 2)}/${id}`);
  }
  const { steps, problems } = await gc(store);
  assert.deepEqual(brief(steps), ['open r0002', 'copy r0002', 'expire r0001', 'delete r0001']);
  assert.deepEqual(problems, [
    { what: 'chunks-lost', names: ['c:latest'], problem: '2 chunks of it are in no root' },
  ]);
  await assertWhole(store, 'a', a!);
});

test('a name whose recipe is in no root stops a collection: its record may be what is damaged', async () => {
  await push(store, 'd', ['base', 'd']);
  store.nowMs += 1;
  const record = store.objects.get('names/d/@latest')!;
  const { recipe } = JSON.parse(record.bytes.toString());
  const wrong = recipe.replace(/^./, (digit: string) => (digit === '0' ? '1' : '0'));
  const damaged = Buffer.from(record.bytes.toString().replace(recipe, wrong));
  store.objects.set('names/d/@latest', { ...record, bytes: damaged });
  const before = keysOf(store);
  const { steps, problems } = await gc(store);
  assert.ok(!brief(steps).some(step => /open|expire|delete/.test(step)), brief(steps).join());
  assert.deepEqual(problems, [
    { what: 'name-untold', names: ['d:latest'], problem: `recipe ${wrong} is in no root` },
  ]);
  assert.deepEqual(
    keysOf(store).filter(key => key !== 'clock'),
    before.filter(key => key !== 'clock'),
  );
  store.objects.set('names/d/@latest', record);
  await gc(store);
  await assertWhole(store, 'd', ['base', 'd']);
});

test('a chunk that is gone when it is to be copied is lost, not copied', async () => {
  const { id } = chunkOf('a').segment;
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind === 'copy' && key.endsWith(id)) {
      store.objects.delete(`roots/r0001/chunks/${id.slice(0, 2)}/${id}`);
    }
    return work();
  });
  const { problems } = await gc(watched);
  assert.deepEqual(problems, [
    { what: 'chunks-lost', names: ['a:latest'], problem: '1 chunk of it is in no root' },
  ]);
});

test('what a stranger puts above the active root is passed by', async () => {
  for (const marker of ['r0002.deleted', 'r0003.alarm', 'r999999999.alarm']) {
    await store.put(`states/${marker}`, Buffer.alloc(0), { ifAbsent: true });
  }
  await store.put('roots/r0002/chunks/ab/c', Buffer.from('theirs'), { ifAbsent: true });
  const { steps } = await gc(store);
  const all = ['open r0004', 'copy r0004', 'expire r0001', 'delete r0001'];
  assert.deepEqual(brief(steps), all);
  await assertWhole(store, 'a', a!);
  const cleaned = ['clean r0002', 'clean r0003'];
  assert.deepEqual(brief((await gc(store)).steps), cleaned, 'now they are below');
});

test('what the active root lost is taken from an older one', async () => {
  await using _lease = await RootLease.take(rootsOf(store), undefined);
  await gc(store);
  const { id } = chunkOf('a').segment;
  store.objects.delete(`roots/r0002/chunks/${id.slice(0, 2)}/${id}`);
  const { steps, problems } = await gc(store);
  assert.deepEqual(brief(steps), ['copy r0002', 'wait r0001 push']);
  assert.deepEqual(problems, []);
  const { steps: none } = await gc(store);
  assert.deepEqual(brief(none), ['wait r0001 push']);
});

test('a copy that fails leaves the name where it can be read', async () => {
  let copies = 0;
  const watched = new WatchedStore(store, async ({ kind }, work) => {
    if (kind === 'copy' && ++copies === 2) throw new Error('injected');
    return work();
  });
  await assert.rejects(gc(watched), /injected/);
  assert.deepEqual(keysOf(store, 'roots/r0002/recipes/'), []);
  assert.ok(keysOf(store, 'roots/r0002/chunks/').length > 0);
  await assertWhole(store, 'a', a!);
  copies = Number.NEGATIVE_INFINITY;
  const { steps } = await gc(watched);
  assert.deepEqual(brief(steps), ['copy r0002', 'expire r0001', 'delete r0001']);
  const [copy] = steps;
  assert.ok(copy?.do === 'copy' && copy.usage.chunks < 3, 'what is there is not copied again');
  await assertExact(store, new Map([['a', a!]]));
});

test('a collection stops when another has opened a root', async () => {
  let isFirst = true;
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    await work();
    if (kind !== 'copy' || !key.includes('/recipes/') || !isFirst) return;
    isFirst = false;
    await store.put('states/r0003.opened', Buffer.alloc(0), { ifAbsent: true });
  });
  await assert.rejects(gc(watched), isFault('BUSY', /another collection has opened root r0003/));
  assert.ok(!keysOf(store, 'states/').includes('states/r0001.expired'));
  await gc(store);
  await assertExact(store, new Map([['a', a!]]));
});

test('what comes late below a root that is gone is removed, with what its push left', async () => {
  await gc(store);
  const late = ['roots/r0001/chunks/ab/late', 'roots/r0001/recipes/late', 'states/r0001.alarm'];
  for (const key of late) await store.put(key, Buffer.from('late'), { ifAbsent: true });
  const { steps } = await gc(store);
  assert.deepEqual(steps, [{ do: 'clean', root: 'r0001', objects: 2, bytes: 8 }]);
  await assertExact(store, new Map([['a', a!]]));

  await store.put(late[0]!, Buffer.from('late'), { ifAbsent: true });
  await store.put(`pushes/r0001/${'0'.repeat(36)}`, Buffer.alloc(0), { ifAbsent: true });
  assert.deepEqual((await gc(store)).steps, [], 'its push still runs');
  store.nowMs += leaseAgeMaxMs + 1;
  assert.deepEqual(brief((await gc(store)).steps), ['clean r0001']);
  await assertExact(store, new Map([['a', a!]]));
});

test('objects without a marker are kept while a name lacks anything', async () => {
  await gc(store);
  await store.put('roots/r0001/chunks/ab/late', Buffer.from('late'), { ifAbsent: true });
  const [recipe] = keysOf(store, 'roots/r0002/recipes/');
  store.objects.delete(recipe!);
  assert.ok(!brief((await gc(store)).steps).includes('clean r0001'));
  assert.ok(store.objects.has('roots/r0001/chunks/ab/late'));
});

test('foreign objects do not stop the deletion of their root', async () => {
  for (const key of ['roots/r0001/notes', 'roots/r0001/chunks/ab/xyz', 'roots/r0001/not a key']) {
    store.objects.set(key, { bytes: Buffer.from('x'), modified: new Date() });
  }
  await gc(store);
  assert.deepEqual(keysOf(store, 'roots/r0001/'), ['roots/r0001/not a key']);
  assert.deepEqual((await gc(store)).steps, []);
});

test('ids beyond what fits into memory are walked in parts', async () => {
  const contents = Array.from({ length: 600 }, (_, i) => `chunk ${i}`);
  await push(store, 'many', contents);
  const lists: string[] = [];
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind === 'list') lists.push(key);
    return work();
  });
  for (const liveChunksMax of [1, 50, 1000]) {
    await push(store, `gone`, [`gone ${liveChunksMax}`]);
    await remove(store, 'gone');
    lists.length = 0;
    const whole = await plan(store);
    const inParts = await plan(watched, { liveChunksMax });
    assert.deepEqual(inParts.survey, whole.survey);
    assert.equal(lists.filter(key => key.includes('/chunks/')).length > 0, liveChunksMax < 600);
    await gc(watched, { liveChunksMax });
    await assertWhole(store, 'many', contents);
  }
  await assertExact(
    store,
    new Map([
      ['a', a!],
      ['many', contents],
    ]),
  );
});

test('a signal ends a collection, and the next goes on', async () => {
  for (let after = 1; after < 40; after += 3) {
    const stopping = new AbortController();
    let calls = 0;
    const watched = new WatchedStore(store, async (_call, work) => {
      if (++calls === after) stopping.abort(new Error('stopped'));
      return work();
    });
    await assert.rejects(gc(watched, { signal: stopping.signal }), /stopped/);
    await assertWhole(store, 'a', a!);
    if (!keysOf(store, 'states/').includes('states/r0001.opened')) break;
  }
  await gc(store);
  store.nowMs += 25 * hourMs;
  await gc(store);
  await assertExact(store, new Map([['a', a!]]));
});
