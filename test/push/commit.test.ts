/** Whatever stops a push, and wherever: the name means the old image or the new one, and it is whole. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImgstoreError } from '../../src/base/errors.ts';
import { pushImage } from '../../src/push/push.ts';
import { pushDisk } from '../../src/push/push-disk.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { startCommand } from '../support/processes.ts';
import { type TestImage, targetOn, verdictOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { type StoreCall, type Watch, WatchedStore } from '../support/watched-store.ts';
import { numberedDisk, numberedImage } from './numbered.ts';

const pusher = join(import.meta.dirname, 'push-process.ts');

/** What the name means; fails unless it is whole. */
async function meaningOf(
  store: ObjectStore & CopyingStore,
  name = 'app',
): Promise<string | undefined> {
  const { roots, catalog, name: parsed } = await targetOn(store, name);
  const resolved = await catalog.resolve(parsed);
  if (resolved === undefined) return undefined;
  assert.deepEqual((await verdictOn(resolved.recipe, roots)).faults, []);
  return resolved.recipeId;
}

function copyOf(store: MemoryStore): MemoryStore {
  const copy = new MemoryStore();
  for (const [key, object] of store.objects) copy.objects.set(key, object);
  return copy;
}

type Stop = 'fails' | 'fails after it was done' | 'crashes';

/** Call `n` fails, before or after its work; after a crash no call works any more. */
function stopAt(n: number, stop: Stop, counted: (call: StoreCall) => boolean) {
  let calls = 0;
  let reached = false;
  const fault = new ImgstoreError('IO', 'Cannot go on: stopped');
  const watch: Watch = async (call, work) => {
    if (reached && stop === 'crashes') throw fault;
    if (!counted(call) || calls++ !== n) return work();
    reached = true;
    if (stop === 'fails after it was done') await work();
    throw fault;
  };
  return { watch, wasReached: () => reached };
}

const isPut = (call: StoreCall) => call.kind === 'put';
const isAny = () => true;

for (const [stop, counted] of [
  ['fails', isPut],
  ['fails after it was done', isPut],
  ['crashes', isAny],
] as const) {
  test(`a store of which call after call ${stop}`, async () => {
    const store = new MemoryStore();
    const before = await pushImage(numberedImage(1), await targetOn(store, 'app'));
    const expected = copyOf(store);
    const after = await pushImage(numberedImage(2), await targetOn(expected, 'app'));
    let replaced = 0;
    for (let n = 0; ; n++) {
      const current = copyOf(store);
      const { watch, wasReached } = stopAt(n, stop, counted);
      const push = async () => {
        const target = await targetOn(new WatchedStore(current, watch), 'app');
        return pushImage(numberedImage(2), target);
      };
      const report = await push().catch((error: unknown) => {
        assert.ok(error instanceof ImgstoreError && error.message.includes('stopped'), `${error}`);
        return undefined;
      });
      if (!wasReached()) {
        assert.equal(report?.recipe, after.recipe);
        assert.ok(n > after.newChunks, 'every chunk, the recipe and the name had their turn');
        break;
      }
      const meaning = await meaningOf(current);
      if (meaning === after.recipe) replaced++;
      else assert.equal(meaning, before.recipe, `${stop} at ${n}`);
      // Whatever was left there, the next push brings the store to where it should be.
      await pushImage(numberedImage(2), await targetOn(current, 'app'));
      assert.equal(await meaningOf(current), after.recipe);
    }
    // The put of the name makes the new image what it means. Behind it comes only the end of the
    // lease, which a crash may prevent without harm.
    assert.equal(replaced, stop === 'fails' ? 0 : 1);
  });
}

test('a first push that crashes anywhere leaves no name, or a whole image', async () => {
  for (let n = 0, done = false; !done; n++) {
    const store = new MemoryStore();
    const { watch, wasReached } = stopAt(n, 'crashes', isAny);
    const push = async () => {
      const target = await targetOn(new WatchedStore(store, watch), 'app');
      return pushImage(numberedImage(1), target);
    };
    const isPushed = await push().then(
      () => true,
      () => false,
    );
    done = !wasReached();
    assert.equal((await meaningOf(store)) !== undefined, isPushed);
    assert.ok(isPushed || !done);
  }
});

test('a push of a raw disk that crashes anywhere leaves no name', async context => {
  const path = numberedDisk(temporaryFolder(context), 1);
  for (let n = 0, done = false; !done; n++) {
    const store = new MemoryStore();
    const { watch, wasReached } = stopAt(n, 'crashes', isAny);
    const push = async () => pushDisk(path, await targetOn(new WatchedStore(store, watch), 'app'));
    const isPushed = await push().then(
      () => true,
      () => false,
    );
    done = !wasReached();
    assert.equal((await meaningOf(store)) !== undefined, isPushed);
    assert.ok(isPushed || !done);
  }
});

test('killed with SIGKILL at any moment, round after round in one store', async context => {
  const folder = temporaryFolder(context);
  const random = new Random(1);
  const possible = new Set<string>();
  for (const number of [0, 1, 2]) {
    const target = await targetOn(new MemoryStore(), 'app');
    possible.add((await pushImage(numberedImage(number), target)).recipe);
  }
  for (let round = 0; round < 4; round++) {
    const { child, result } = startCommand(process.execPath, [pusher, folder, 'alternate']);
    // A second push begins, so the first one is done.
    for await (const text of child.stdout!.iterator({ destroyOnReturn: false }))
      if (`${text}`.includes('1')) break;
    await sleep(random.below(250));
    child.kill('SIGKILL');
    const { signal, stderr } = await result;
    assert.equal(signal, 'SIGKILL', stderr);
    const meaning = await meaningOf(new DirectoryStore(folder));
    assert.ok(meaning !== undefined && possible.has(meaning), `round ${round}: ${meaning}`);
  }
  const target = await targetOn(new DirectoryStore(folder), 'app');
  const { recipe } = await pushImage(numberedImage(7), target);
  assert.equal(await meaningOf(new DirectoryStore(folder)), recipe);
});

test('pushes at once of images that overlap: all are whole', async context => {
  const folder = temporaryFolder(context);
  const numbers = [0, 1, 2, 3];
  // Half of them in this process, each with a store of its own; half in others.
  const here = numbers.map(async number => {
    const target = await targetOn(new DirectoryStore(folder), `app:${number}`);
    return pushImage(numberedImage(number), target);
  });
  const there = ['4', '5'].map(number => {
    return startCommand(process.execPath, [pusher, folder, number]).result;
  });
  await Promise.all(here);
  for (const { exitCode, stderr } of await Promise.all(there)) assert.equal(exitCode, 0, stderr);
  for (const number of [...numbers, 4, 5]) {
    const expected = await pushImage(numberedImage(number), await targetOn(new MemoryStore(), 'x'));
    const store = new DirectoryStore(folder);
    assert.equal(await meaningOf(store, `app:${number}`), expected.recipe, `image ${number}`);
  }
});

test('pushes at once under one name: it means one of them, whole', async () => {
  const store = new MemoryStore();
  const images = [0, 1, 2].map(numberedImage);
  const push = async (image: TestImage) => pushImage(image, await targetOn(store, 'app'));
  const reports = await Promise.all(images.map(push));
  const meaning = await meaningOf(store);
  assert.ok(reports.some(({ recipe }) => recipe === meaning));
});
