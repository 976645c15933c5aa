import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { KiB } from '../../../src/base/limits.ts';
import { DedupSalt } from '../../../src/keys/keys.ts';
import { ChunkUploader, type StoredChunk } from '../../../src/push/chunk-uploader.ts';
import type { Remembering } from '../../../src/push/memo/layer-memos.ts';
import { PackMaker } from '../../../src/push/memo/pack-maker.ts';
import {
  convertImage,
  type PushReport,
  type PushTarget,
  pushImage,
} from '../../../src/push/push.ts';
import { parseImageName } from '../../../src/recipe/name.ts';
import type { Recipe } from '../../../src/recipe/recipe.ts';
import { MapMemory } from '../../support/layer-memory.ts';
import { MemoryImage } from '../../support/memory-image.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { manyBytes, salt, TestImage, targetOn, verdictOn } from '../../support/pushing.ts';
import { Random, seeded } from '../../support/random.ts';
import { randomImage } from '../../support/random-layers.ts';
import { sealingHere } from '../../support/sealing-here.ts';
import { type LayerEntry, tarOf } from '../../support/tar-builder.ts';

/** Pushes to two stores, with a memory and without, and fails unless both come to the same. */
class Twins {
  readonly memory = new MapMemory();
  readonly remembering = new MemoryStore();
  readonly forgetful = new MemoryStore();

  async push(
    name: string,
    make: () => MemoryImage,
    changed: Partial<PushTarget> = {},
  ): Promise<{ image: MemoryImage; report: PushReport; recipe: Recipe }> {
    const image = make();
    const warnings: string[][] = [[], []];
    const [memory, onWarning] = [this.memory, (line: string) => warnings[0]!.push(line)];
    const target = await targetOn(this.remembering, name, { memory, onWarning, ...changed });
    const report = await pushImage(image, target);
    const plain = await targetOn(this.forgetful, name, {
      onWarning: line => warnings[1]!.push(line),
      ...changed,
    });
    const expected = await pushImage(make(), plain);
    assert.deepEqual(report, expected);
    assert.deepEqual(warnings[0], warnings[1]);
    const { recipe } = await target.catalog.open(parseImageName(name));
    assert.deepEqual(recipe, (await plain.catalog.open(parseImageName(name))).recipe);
    const verdict = await verdictOn(recipe, target.roots);
    assert.deepEqual(verdict.faults, []);
    return { image, report, recipe };
  }

  /** How often each layer was read, bottom first. */
  async opened(name: string, make: () => MemoryImage, changed: Partial<PushTarget> = {}) {
    return (await this.push(name, make, changed)).image.opened;
  }
}

/** As Twins, of conversions alone: known is whatever was made before. */
class Conversions {
  readonly #memory = new MapMemory();
  readonly #store = new MemoryStore();
  readonly #known = new Map<string, StoredChunk>();

  /** How often each layer was read, bottom first. */
  async opened(tars: readonly Buffer[], { seed }: Random): Promise<number[]> {
    const image = new MemoryImage(tars);
    const maker = new PackMaker(this.#store, {});
    const recipe = await this.#convert(image, { memory: this.#memory, maker, rewrite: false });
    const expected = await this.#convert(new MemoryImage(tars), undefined);
    assert.deepEqual(recipe, expected, `seed ${seed}`);
    for (const segment of recipe.segments) {
      if (segment.kind === 'chunk') this.#known.set(segment.key.toString('hex'), segment);
    }
    return image.opened;
  }

  async #convert(image: MemoryImage, remembering: Remembering | undefined): Promise<Recipe> {
    await using uploader = new ChunkUploader({
      chunks: this.#store,
      sealer: sealingHere,
      salt: salt.bytes,
      known: this.#known,
      chunksInFlightMax: 4,
      rewrite: false,
    });
    const target = { salt, onProgress: () => {}, onWarning: () => {} };
    return await convertImage(image, uploader, target, remembering);
  }
}

/** Files of all sizes; every tenth is sparse or empty. */
function files(random: Random, prefix: string, count: number): LayerEntry[] {
  const sizes = [0, 100, 512, 513, 3000, 9000, 30_000, 64 * KiB - 1, 64 * KiB, 400_000];
  return Array.from({ length: count }, (_, i): LayerEntry => {
    const content = manyBytes(random, random.below(random.pick(sizes) + 1));
    if (i % 10 === 9) content.fill(0, content.length >>> 2);
    return { path: `${prefix}/f${i}`, content, mtimeSeconds: random.between(-5, 2 ** 33) };
  });
}

const base = files(new Random(1), 'usr', 150);
const middle = files(new Random(2), 'opt', 40);
const app = (seed: number) => files(new Random(seed), 'app', 8);
const imageOf =
  (...layers: LayerEntry[][]) =>
  (): TestImage =>
    new TestImage(layers);

test('layers below a changed one are not read again', async () => {
  const twins = new Twins();
  assert.deepEqual(await twins.opened('app:1', imageOf(base, middle, app(3))), [1, 1, 1]);
  assert.deepEqual(await twins.opened('app:2', imageOf(base, middle, app(4))), [0, 0, 1]);
  assert.deepEqual(await twins.opened('app:2', imageOf(base, middle, app(3))), [0, 0, 0]);
  assert.deepEqual(await twins.opened('other', imageOf(middle, base)), [0, 0]);
  assert.deepEqual(await twins.opened('other', imageOf(base, app(5), middle)), [0, 1, 0]);
});

test('a layer above that hides small files: their packs are made again from the store', async () => {
  const twins = new Twins();
  const small = base.filter(({ content }) => content!.length > 600 && content!.length < 9000);
  const hiding = (from: number): LayerEntry[] => [
    { path: small[from]!.path, content: 'changed' },
    { path: small[from + 20]!.path.replace('/f', '/.wh.f') },
  ];
  await twins.push('app:1', imageOf(base));
  assert.deepEqual(await twins.opened('app:2', imageOf(base, hiding(0))), [0, 1]);
  assert.deepEqual(await twins.opened('app:3', imageOf(base, hiding(5))), [0, 1]);
  assert.deepEqual(await twins.opened('app:4', imageOf(base)), [0]);
});

test('what a memo was made without is read once, and both are remembered', async () => {
  const twins = new Twins();
  const small = base.filter(({ content }) => content!.length > 600 && content!.length < 60_000);
  const hiding = (from: number, text: string): LayerEntry[] => [
    { path: small[from]!.path, content: `changed ${text}` },
    { path: small[from + 9]!.path, content: 'changed' },
  ];
  await twins.push('a', imageOf(base, hiding(0, '1')));
  assert.deepEqual(await twins.opened('b', imageOf(base, hiding(4, '1'))), [1, 1]);
  // The memo knows what the one and what the other hides.
  assert.deepEqual(await twins.opened('a', imageOf(base, hiding(0, '2'))), [0, 1]);
  assert.deepEqual(await twins.opened('b', imageOf(base, hiding(4, '2'))), [0, 1]);
  assert.deepEqual(await twins.opened('c', imageOf(base)), [0]);
});

test('files that are equal to those of other layers, now here, now there', async () => {
  const twins = new Twins();
  const copies = (step: number) =>
    base.filter((_, i) => i % step === 0).map((entry, i) => ({ ...entry, path: `copy/${i}` }));
  await twins.push('app:1', imageOf(base, copies(7)));
  await twins.push('app:2', imageOf(base, copies(5)));
  await twins.push('app:3', imageOf(base));
  assert.deepEqual(await twins.opened('app:4', imageOf(base, copies(3))), [0, 1]);
  assert.deepEqual(await twins.opened('app:4', imageOf(copies(7), copies(3), base)), [0, 0, 0]);
  // A layer that an image has twice: its upper one is known by the time the lower one comes.
  assert.deepEqual(await twins.opened('app:5', imageOf(app(8), copies(7), app(8))), [0, 0, 1]);
});

test('warnings are repeated; contents that were wrongly held back are read again', async () => {
  const twins = new Twins();
  const odd: LayerEntry[] = [
    { path: 'null', type: 'char', major: 0, minor: 0 },
    { path: 'gone', content: 'linked', xattrs: { 'odd.name': Buffer.from('x') } },
    { path: '.wh..wh.plnk/1', content: 'AUFS keeps this' },
  ];
  const link: LayerEntry[] = [
    { path: 'link', type: 'hard-link', target: 'gone' },
    { path: '.wh.gone' },
  ];
  const warnings: string[] = [];
  const onWarning = (line: string) => warnings.push(line);
  for (const [tag, expected] of [
    ['1', [2, 1, 1]],
    ['2', [1, 0, 1]],
  ] as const) {
    warnings.length = 0;
    const make = imageOf(odd, link, app(Number(tag)));
    assert.deepEqual(await twins.opened(`app:${tag}`, make), expected);
    await pushImage(
      make(),
      await targetOn(twins.remembering, 'a', { memory: twins.memory, onWarning }),
    );
    assert.equal(warnings.length, 2);
  }
});

test('a layer that cannot be applied is refused with the same words, remembered or not', async () => {
  const twins = new Twins();
  const link: LayerEntry[] = [{ path: 'link', type: 'hard-link', target: 'file' }];
  await twins.push('app:1', imageOf([{ path: 'file', content: 'x' }], link));
  const messages: unknown[] = [];
  for (const changed of [{ memory: twins.memory }, {}]) {
    const target = await targetOn(twins.remembering, 'app:2', changed);
    await pushImage(imageOf(link)(), target).catch(error => messages.push(error.message));
  }
  assert.equal(messages.length, 2);
  assert.equal(messages[0], messages[1]);
});

test('a memory that cannot be written costs a warning, once, and nothing else', async () => {
  const twins = new Twins();
  const warnings: string[] = [];
  twins.memory.write = async () => {
    throw new ImgstoreError('IO', 'Cannot note a layer: no space left on the device');
  };
  const target = await targetOn(twins.remembering, 'app:1', {
    memory: twins.memory,
    onWarning: line => warnings.push(line),
  });
  await pushImage(imageOf(base, app(3))(), target);
  assert.deepEqual(warnings, ['Cannot note a layer: no space left on the device']);
});

test('chunks that are not known in the root: the layer is read', async () => {
  const twins = new Twins();
  await twins.push('app:1', imageOf(base, app(3)));
  const known = async () => new Map();
  assert.deepEqual(await twins.opened('app:2', imageOf(base, app(4)), { known }), [1, 1]);
  const other = new DedupSalt(Buffer.alloc(32, 1));
  assert.deepEqual(await twins.opened('app:3', imageOf(base, app(5)), { salt: other }), [1, 1]);
  assert.deepEqual(await twins.opened('app:4', imageOf(base, app(6)), { salt: other }), [0, 1]);
  twins.remembering.objects.clear();
  twins.forgetful.objects.clear();
  assert.deepEqual(await twins.opened('app:1', imageOf(base, app(7))), [1, 1]);
});

test('a chunk that is gone or damaged in the store is not taken for the bytes of a pack', async () => {
  const twins = new Twins();
  const small = base.filter(({ content }) => content!.length > 600 && content!.length < 9000);
  await twins.push('app:1', imageOf(base));
  const chunkKeys = [...twins.remembering.objects.keys()].filter(key => key.includes('/chunks/'));
  chunkKeys.forEach((key, i) => {
    const object = twins.remembering.objects.get(key)!;
    if (i % 2 === 0) object.bytes[50]! ^= 1;
    else twins.remembering.objects.delete(key);
  });
  const image = new TestImage([base, [{ path: small[2]!.path, content: 'changed' }]]);
  const target = await targetOn(twins.remembering, 'app:2', { memory: twins.memory });
  const report = await pushImage(image, target);
  assert.deepEqual(image.opened, [1, 1]);
  const plain = await targetOn(twins.forgetful, 'app:2');
  const expected = await pushImage(
    new TestImage([base, [{ path: small[2]!.path, content: 'changed' }]]),
    plain,
  );
  assert.equal(report.recipe, expected.recipe);
});

test('rewriting reads every layer, and remembers anew', async () => {
  const twins = new Twins();
  await twins.push('app:1', imageOf(base, app(3)));
  for (const [name, memo] of twins.memory.memos) twins.memory.memos.set(name, memo.subarray(1));
  assert.deepEqual(await twins.opened('app:1', imageOf(base, app(3)), { rewrite: true }), [1, 1]);
  assert.deepEqual(await twins.opened('app:2', imageOf(base, app(3))), [0, 0]);
});

test('a memo with any bit changed, cut off, or of another layer is no memo', async () => {
  const twins = new Twins();
  const [lower, upper] = [files(new Random(7), 'lower', 30), files(new Random(8), 'upper', 9)];
  await twins.push('app:1', imageOf(lower, upper));
  const [second, first] = [...twins.memory.memos.keys()] as [string, string];
  const [bytes, others] = [first, second].map(name => twins.memory.memos.get(name)!) as [
    Buffer,
    Buffer,
  ];
  const random = new Random(9);
  const spoiled = Array.from({ length: 4 }, () => {
    const copy = Buffer.from(bytes);
    copy[random.below(copy.length)]! ^= 1 << random.below(8);
    return copy;
  });
  for (const memo of [
    ...spoiled,
    bytes.subarray(0, -1),
    Buffer.alloc(0),
    Buffer.alloc(36),
    others,
  ]) {
    twins.memory.memos.set(first, memo);
    const { image } = await twins.push('app:2', imageOf(lower, upper, app(random.u32())));
    assert.deepEqual(image.opened, [1, 0, 1]);
    assert.ok(twins.memory.memos.get(first)!.equals(bytes), 'it is made again');
  }
});

test('random images one after the other: the same with a memory as without', async () => {
  for (const random of seeded(20)) {
    const conversions = new Conversions();
    const { layers } = await randomImage(random, 4, 15);
    const cuts = layers.map((_, i) => layers.slice(0, i + 1));
    for (const cut of [...cuts, ...cuts.reverse()]) await conversions.opened(cut, random);
  }
});

test('random layers that hide and repeat each other: the same with a memory as without', async () => {
  let [skipped, read] = [0, 0];
  for (const random of seeded(10)) {
    const conversions = new Conversions();
    const contents = Array.from({ length: 30 }, () =>
      manyBytes(random, random.below(random.pick([300, 5000, 60_000, 200_000]))),
    );
    const layer = (): LayerEntry[] =>
      Array.from({ length: random.between(1, 60) }, (): LayerEntry => {
        const path = `d${random.below(3)}/f${random.below(60)}`;
        if (random.chance(0.1)) return { path: path.replace('/f', '/.wh.f') };
        return { path, content: random.pick(contents), mtimeSeconds: random.below(1e9) };
      });
    const layers = Array.from({ length: 5 }, layer);
    for (let round = 0; round < 6; round++) {
      const chosen = layers.filter(() => random.chance(0.6));
      if (random.chance(0.5)) chosen.push(layer());
      if (chosen.length === 0) continue;
      const opened = await conversions.opened(chosen.map(tarOf), random);
      skipped += opened.filter(count => count === 0).length;
      read += opened.length;
    }
  }
  assert.ok(skipped > read / 3, `${skipped} of ${read} layers were skipped`);
});
