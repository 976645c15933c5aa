/**
 * What nothing here hides: the lengths of sealed chunks. The attacker has the store's listing and
 * files of its own, and no salt. bench/sizes.ts counts how often it works on real images.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DomainSecret } from '../../src/keys/keys.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { manyBytes, salt } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { listedChunks, listedSizes, ownSalt, push, sealedChunksOf } from './attacker.ts';

function textOf(seed: number, sizeBytes: number): Buffer {
  const random = new Random(seed);
  const words = Array.from({ length: 500 }, () => random.bytes(5).toString('hex'));
  let text = '';
  while (text.length < sizeBytes) text += `${random.pick(words)} `;
  return Buffer.from(text.slice(0, sizeBytes));
}

/** As the sizes of chunks stand in a row in what a recipe shows to everybody. */
function isRecognised(file: Buffer, store: MemoryStore): boolean {
  const wanted = sealedChunksOf(file, ownSalt).map(({ sealed }) => sealed.length);
  return [...listedSizes(store).values()].some(sizes =>
    sizes.some((_, at) => wanted.every((size, i) => sizes[at + i] === size)),
  );
}

test('sizes: a known large file is recognised without the salt, in any domain and epoch', async () => {
  const file = textOf(1, 700_000);
  const secret = new DomainSecret(Buffer.alloc(32, 5));
  for (const used of [salt, secret.salt('team', 1), secret.salt('team', 2)]) {
    const store = new MemoryStore();
    const files = [
      { path: 'etc/motd', content: 'of the victim' },
      { path: 'opt/known', content: file },
    ];
    await push(store, 'victim', files, { salt: used });
    assert.equal(isRecognised(file, store), true, 'not held');
    assert.equal(isRecognised(textOf(2, 700_000), store), false);
  }
});

test('sizes: of a secret in a known file they tell what it does to the compressed length', async () => {
  const settings = Array.from(
    { length: 6000 },
    (_, i) => `option_${i % 37} = ${(i * 7919) % 1000}`,
  );
  const candidatesLeft = async (body: string) => {
    const config = (pin: number) => Buffer.from(`pin=${String(pin).padStart(4, '0')}\n${body}`);
    const store = new MemoryStore();
    await push(store, 'victim', [{ path: 'app.conf', content: config(142) }]);
    const sizes = new Set(listedChunks(store).values());
    const left = Array.from({ length: 256 }, (_, pin) => pin).filter(pin =>
      sealedChunksOf(config(pin), ownSalt).every(({ sealed }) => sizes.has(sealed.length)),
    );
    assert.ok(left.includes(142));
    return left.length;
  };
  const left = await candidatesLeft(settings.join('\n'));
  assert.ok(left < 256, 'not held: where the text around it compresses, some are ruled out');
  const noise = manyBytes(new Random(3), 40_000).toString('hex');
  assert.equal(await candidatesLeft(noise), 256, 'where all values are as long, none is');
});

test('sharing: recipes show which chunks they have in common, and epochs part them', async () => {
  const file = manyBytes(new Random(4), 300_000);
  const secret = new DomainSecret(Buffer.alloc(32, 6));
  const store = new MemoryStore();
  const pushed = async (name: string, epoch: number) => {
    const files = [{ path: name, content: file }];
    const { recipe } = await push(store, name, files, { salt: secret.salt('team', epoch) });
    return new Set(
      recipe.segments.flatMap(segment => (segment.kind === 'chunk' ? segment.id : [])),
    );
  };
  const [first, second, third] = [await pushed('a', 1), await pushed('b', 1), await pushed('c', 2)];
  const count = sealedChunksOf(file, secret.salt('team', 1)).length;
  assert.equal(first.intersection(second).size, count, 'not held within an epoch');
  assert.equal(second.intersection(third).size, 0);
});
