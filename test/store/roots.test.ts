import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { rootsMax, storeDocumentSizeMaxBytes } from '../../src/base/limits.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { openStore } from '../../src/store/open-store.ts';
import { type Root, Roots } from '../../src/store/roots.ts';
import { isFault, keysOf } from '../contract/object-store.ts';
import { rootsOf } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { seeded } from '../support/random.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { WatchedStore } from '../support/watched-store.ts';

const fixtures = join(import.meta.dirname, '..', '..', 'fixtures', 'stores');

function readerOf(store: ConstructorParameters<typeof Roots>[0]): Roots {
  return new Roots(store);
}

/** A store of these markers, `r0001.opened` and the like. */
async function storeWith(...markers: string[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.put('imgstore.json', Buffer.from('{"format":1}'), { ifAbsent: true });
  for (const marker of markers) await mark(store, marker);
  return store;
}

async function mark(store: MemoryStore, marker: string): Promise<void> {
  await store.put(`states/${marker}`, Buffer.alloc(0), { ifAbsent: false });
}

async function statesOf(store: MemoryStore): Promise<string[]> {
  const { roots, deleted } = await readerOf(store).view();
  return [...roots.map(({ id, state }) => `${id} ${state}`), ...deleted.map(id => `${id} deleted`)];
}

test('a first push makes the documents of format 1, byte for byte', async context => {
  const folder = join(temporaryFolder(context), 'store');
  const store = await openStore(folder);
  await assert.rejects(readerOf(store).view(), isFault('NOT_FOUND', /no store is there$/));
  const roots = rootsOf(store);
  const root = await roots.active();
  assert.equal(root.id, 'r0001');
  for (const name of ['imgstore.json', 'states/r0001.opened']) {
    const made = readFileSync(join(folder, name));
    assert.deepEqual(made, readFileSync(join(fixtures, 'format-1', name)), name);
  }
  await root.chunks.put('ab/cd', Buffer.from('1'), { ifAbsent: true });
  await root.recipes.put('ef', Buffer.from('2'), { ifAbsent: true });
  await roots.names.put('gh', Buffer.from('3'), { ifAbsent: true });
  assert.deepEqual(await keysOf(store, ''), [
    'imgstore.json',
    'names/gh',
    'roots/r0001/chunks/ab/cd',
    'roots/r0001/recipes/ef',
    'states/r0001.opened',
  ]);
});

test('the store of the fixtures opens, without being written to', async () => {
  const folder = join(fixtures, 'format-1');
  const roots = rootsOf(await openStore(folder));
  assert.equal((await roots.active()).id, 'r0001');
  assert.deepEqual(readdirSync(folder), ['imgstore.json', 'states']);
});

test('a store of another format is refused and not touched', async () => {
  const folder = join(fixtures, 'format-999');
  const store = await openStore(folder);
  const refusal = /has format 999, this imgstore reads and writes format 1$/;
  await assert.rejects(readerOf(store).view(), isFault('UNSUPPORTED', refusal));
  await assert.rejects(readerOf(store).create(), isFault('UNSUPPORTED', refusal));
  assert.deepEqual(readdirSync(folder), ['imgstore.json']);
});

test('no store is made among other things, but in an empty folder it is', async context => {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, 'lost+found'));
  writeFileSync(join(folder, 'lost+found', 'a file'), 'x');
  const store = new DirectoryStore(folder);
  await assert.rejects(rootsOf(store).view(), isFault('USAGE', /other things are there/));
  await assert.rejects(readerOf(store).view(), isFault('NOT_FOUND'));
  assert.deepEqual(readdirSync(folder), ['lost+found']);
  rmSync(join(folder, 'lost+found', 'a file'));
  assert.equal((await rootsOf(store).active()).id, 'r0001');
});

test('first pushes at the same time make one store', async context => {
  const folder = temporaryFolder(context);
  for (let round = 0; round < 20; round++) {
    const each = () => rootsOf(new DirectoryStore(join(folder, `${round}`))).active();
    const roots = await Promise.all([each(), each(), each(), each()]);
    assert.deepEqual(
      roots.map(({ id }) => id),
      ['r0001', 'r0001', 'r0001', 'r0001'],
    );
  }
});

test('a store that another first push makes while this one looks around is used', async () => {
  class RacedStore extends MemoryStore {
    override async *list(prefix: string) {
      await this.put('imgstore.json', Buffer.from('{"format":1}'), { ifAbsent: true });
      yield* super.list(prefix);
    }
  }
  assert.equal((await rootsOf(new RacedStore()).active()).id, 'r0001');
});

test('a first push that ended between the two is completed by the next', async () => {
  const store = await storeWith();
  await assert.rejects(readerOf(store).view(), isFault('NOT_FOUND'));
  assert.equal((await rootsOf(store).active()).id, 'r0001');
});

test('states follow from the markers, whatever their order', async () => {
  assert.deepEqual(await statesOf(await storeWith('r0001.opened')), ['r0001 active']);
  const later = await storeWith('r0003.opened', 'r0001.opened', 'r0002.opened', 'r0001.expired');
  assert.deepEqual(await statesOf(later), ['r0003 active', 'r0002 retired', 'r0001 expired']);
  // The active root never expires, and what is being deleted is nothing else besides.
  const odd = await storeWith('r0002.opened', 'r0002.expired', 'r0001.deleted', 'r0001.expired');
  assert.deepEqual(await statesOf(odd), ['r0002 active', 'r0001 deleted']);
  await mark(odd, 'r0003.opened');
  await mark(odd, 'r0003.deleted');
  await mark(odd, 'foreign');
  assert.deepEqual(await statesOf(odd), ['r0002 active', 'r0003 deleted', 'r0001 deleted']);
});

test('markers that came after the deletion, or are the last of one, are of a deleted root', async () => {
  const late = await storeWith('r0003.opened', 'r0002.alarm', 'r0001.expired');
  assert.deepEqual(await statesOf(late), ['r0003 active', 'r0002 deleted', 'r0001 deleted']);
});

test('a root is retired since the next was opened, expired since it was marked', async () => {
  const store = await storeWith('r0001.opened', 'r0002.opened', 'r0003.opened', 'r0001.expired');
  const time = (marker: string, ms: number) => {
    store.objects.get(`states/${marker}`)!.modified = new Date(ms);
  };
  for (const [marker, ms] of [
    ['r0001.opened', 1],
    ['r0002.opened', 2],
    ['r0003.opened', 3],
    ['r0001.expired', 4],
  ] as const) {
    time(marker, ms);
  }
  const { roots } = await readerOf(store).view();
  assert.deepEqual(
    roots.map(({ since }) => since.getTime()),
    [3, 3, 4],
  );
});

test('more roots than any store has are refused', async () => {
  const store = await storeWith();
  for (let i = 1; i <= rootsMax + 1; i++) await mark(store, `r${`${i}`.padStart(4, '0')}.opened`);
  await assert.rejects(readerOf(store).view(), isFault('LIMIT'));
});

test('a document over the limit is refused before it is read', async () => {
  const store = new MemoryStore();
  const large = Buffer.alloc(storeDocumentSizeMaxBytes + 1, ' ');
  await store.put('imgstore.json', large, { ifAbsent: true });
  await assert.rejects(rootsOf(store).view(), isFault('LIMIT'));
});

test('a store that is gone is told from one without an object', async context => {
  const folder = join(temporaryFolder(context), 'store');
  const roots = rootsOf(new DirectoryStore(folder));
  await roots.view();
  rmSync(folder, { recursive: true });
  await assert.rejects(roots.refresh(), isFault('UNAVAILABLE', /it is gone$/));
  mkdirSync(folder);
  await assert.rejects(roots.refresh(), isFault('UNAVAILABLE', /it is gone$/));
  assert.deepEqual(readdirSync(folder), [], 'nothing is made in its place');
});

test('two requests at once tell of a store, then one each time', async () => {
  const calls: string[] = [];
  const store = new WatchedStore(await storeWith('r0001.opened'), async ({ kind, key }, work) => {
    calls.push(`${kind} ${key}`);
    return work();
  });
  const roots = readerOf(store);
  assert.deepEqual(calls, []);
  const views = await Promise.all([roots.view(), roots.view(), roots.active()]);
  assert.equal(views[0], views[1]);
  assert.deepEqual(calls.splice(0).sort(), ['get imgstore.json', 'list states']);
  await roots.view();
  await roots.view({ ageMaxMs: 60_000 });
  assert.deepEqual(calls, []);
  await roots.refresh();
  assert.deepEqual(calls, ['list states']);
});

test('what is looked for is found in the newest root that has it, new ones included', async () => {
  const store = await storeWith('r0001.opened', 'r0002.opened');
  const roots = readerOf(store);
  await roots.view();
  const put = (key: string) => store.put(key, Buffer.from(key), { ifAbsent: true });
  await put('roots/r0001/recipes/both');
  await put('roots/r0002/recipes/both');
  await put('roots/r0001/recipes/old');
  const where = async (key: string) => {
    const hit = await roots.find(root => root.recipes.get(key, { sizeMaxBytes: 99 }), key);
    return hit && { root: hit.root.id, text: hit.found.toString() };
  };
  assert.deepEqual(await where('both'), { root: 'r0002', text: 'roots/r0002/recipes/both' });
  assert.deepEqual(await where('old'), { root: 'r0001', text: 'roots/r0001/recipes/old' });
  assert.equal(await where('none'), undefined);

  await mark(store, 'r0003.opened');
  await put('roots/r0003/recipes/new');
  const later = readerOf(store);
  await later.view();
  const hit = await later.find(root => root.recipes.get('new', { sizeMaxBytes: 99 }), 'new');
  assert.equal(hit?.root.id, 'r0003');
  await mark(store, 'r0001.deleted');
  await later.refresh();
  assert.equal(
    await later.find(root => root.recipes.get('old', { sizeMaxBytes: 99 }), 'old'),
    undefined,
    'nothing is read from a root that is being deleted',
  );
});

test('what a collection moves while it is looked for is found', async () => {
  const store = await storeWith('r0001.opened');
  const [old, moved] = ['roots/r0001/recipes/key', 'roots/r0002/recipes/key'];
  await store.put(old, Buffer.from('x'), { ifAbsent: true });
  const roots = readerOf(store);
  await roots.view();
  await mark(store, 'r0002.opened');
  const collect = async () => {
    await store.copy(old, moved);
    await mark(store, 'r0001.deleted');
    await store.remove(old);
  };
  const look = (root: Root) => root.recipes.get('key', { sizeMaxBytes: 9 });
  // Before the look, under a view of a moment ago; and again between two roots of one search.
  await collect();
  assert.equal((await roots.find(look, 'key'))?.root.id, 'r0002');
  const late = await storeWith('r0001.opened', 'r0002.opened');
  await late.put(old, Buffer.from('x'), { ifAbsent: true });
  const hit = await readerOf(late).find(async root => {
    const found = await look(root);
    if (root.id === 'r0002' && found === undefined) {
      await late.copy(old, moved);
      await mark(late, 'r0001.deleted');
      await late.remove(old);
    }
    return found;
  }, 'key');
  assert.equal(hit?.root.id, 'r0002');
});

test('one look at a time tells of any number of absent objects', async () => {
  let lists = 0;
  let running = 0;
  const store = new WatchedStore(await storeWith('r0001.opened'), async ({ kind }, work) => {
    if (kind === 'list') {
      lists++;
      assert.equal(++running, 1, 'one at a time');
    }
    await work();
    await new Promise(resolve => setImmediate(resolve));
    if (kind === 'list') running--;
  });
  const roots = readerOf(store);
  await roots.view();
  lists = 0;
  const absent = () => roots.find(root => root.chunks.stat('k'), 'chunk k');
  const found = await Promise.all(Array.from({ length: 50 }, absent));
  assert.ok(found.every(hit => hit === undefined));
  assert.ok(lists <= 2, `${lists} looks`);
});

test('a read from an expired root works, and is one alarm', async () => {
  const store = await storeWith('r0001.opened', 'r0002.opened', 'r0001.expired');
  await store.put('roots/r0001/chunks/k', Buffer.from('x'), { ifAbsent: true });
  const alarms: string[] = [];
  const roots = new Roots(store, { onAlarm: message => alarms.push(message) });
  const read = () => roots.find(root => root.chunks.get('k', { sizeMaxBytes: 9 }), 'chunk k');
  for (let time = 0; time < 3; time++) assert.equal((await read())?.found.toString(), 'x');
  assert.equal(alarms.length, 1);
  assert.match(alarms[0]!, /^chunk k was read from root r0001, .* the next gc will keep it$/);
  assert.match(store.objects.get('states/r0001.alarm')!.bytes.toString(), /"chunk k"/);
  const [, old] = (await roots.refresh()).roots;
  assert.ok(old?.alarmed);

  const denied = new WatchedStore(store, async ({ kind }, work) => {
    if (kind === 'put') throw new Error('read-only');
    return work();
  });
  const reader = new Roots(denied, { onAlarm: message => alarms.push(message) });
  assert.ok(await reader.find(root => root.chunks.get('k', { sizeMaxBytes: 9 }), 'chunk k'));
  assert.match(alarms.at(-1)!, /gc cannot be told: read-only$/);
});

test('a store that fails is asked again, and what was seen before stays', async () => {
  let isDown = true;
  const store = new WatchedStore(await storeWith('r0001.opened'), async (_call, work) => {
    if (isDown) throw new Error('down');
    return work();
  });
  const roots = readerOf(store);
  await assert.rejects(roots.view(), /down/);
  isDown = false;
  await roots.view();
  isDown = true;
  await assert.rejects(roots.refresh(), /down/);
  assert.equal((await roots.active()).id, 'r0001');
});

test('markers that a hostile store makes up change nothing but which root is active', async () => {
  for (const random of seeded(200)) {
    const markers = Array.from({ length: random.between(1, 12) }, () => {
      const fact = random.pick(['opened', 'expired', 'alarm', 'deleted', 'x', '']);
      return `r${`${random.below(5)}`.padStart(random.between(3, 5), '0')}.${fact}`;
    });
    const store = await storeWith(...markers.filter(marker => !marker.endsWith('.')));
    try {
      const { roots, deleted } = await readerOf(store).view();
      const ids = [...roots.map(({ id }) => id), ...deleted];
      assert.equal(new Set(ids).size, ids.length, `seed ${random.seed}`);
      assert.equal(roots.filter(({ state }) => state === 'active').length, 1);
    } catch (error) {
      isFault('NOT_FOUND')(error);
    }
  }
});
