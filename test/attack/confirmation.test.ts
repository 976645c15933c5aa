/**
 * Confirmation of a file (Douceur et al. 2002; Storer et al. 2008): the attacker has a file and asks
 * whether it is stored. Learning the remaining information: the same for each value that an unknown
 * field of a known file can have.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DedupSalt, DomainSecret } from '../../src/keys/keys.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { manyBytes, salt } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { otherKey } from '../support/recipes.ts';
import { listedChunks, ownSalt, push, sealedChunksOf } from './attacker.ts';

const stored = manyBytes(new Random(1), 900_000);
const absent = manyBytes(new Random(2), 900_000);
const victim = [
  { path: 'etc/motd', content: 'of the victim alone' },
  { path: 'opt/known', content: stored },
];

/** How many of the file's chunks are in the store, if the attacker seals it under this salt. */
function chunksFound(file: Buffer, guess: DedupSalt, store: MemoryStore): number {
  const listed = listedChunks(store);
  return sealedChunksOf(file, guess).filter(({ id }) => listed.has(id)).length;
}

test('confirmation of a file: the store alone does not tell it', async () => {
  const store = new MemoryStore();
  await push(store, 'victim', victim);
  const count = sealedChunksOf(stored, salt).length;
  assert.ok(count > 1);
  assert.equal(chunksFound(stored, salt, store), count, 'who has the salt confirms it');
  assert.equal(chunksFound(absent, salt, store), 0, 'and nothing that is not there');
  // As convergent encryption without a salt would be, and whatever else may be guessed.
  const guesses = [Buffer.alloc(32), Buffer.alloc(32, 0xff), ownSalt.bytes];
  for (const guess of guesses) {
    assert.equal(chunksFound(stored, new DedupSalt(guess), store), 0);
  }
});

test('confirmation of a file: neither from another domain nor after the epoch', async () => {
  const secret = new DomainSecret(Buffer.alloc(32, 3));
  const other = new DomainSecret(Buffer.alloc(32, 4));
  const then = new MemoryStore();
  const now = new MemoryStore();
  await push(then, 'victim', victim, { salt: secret.salt('team', 5) });
  await push(now, 'victim', victim, { salt: secret.salt('team', 6) });
  const ofEpoch = secret.salt('team', 5);
  assert.ok(chunksFound(stored, ofEpoch, then) > 1, 'the salt of that time tells of that time');
  assert.equal(chunksFound(stored, ofEpoch, now), 0);
  const elsewhere = [
    secret.salt('team', 4),
    secret.salt('team', undefined),
    secret.salt('other', 6),
  ];
  for (const guess of [...elsewhere, other.salt('team', 6)]) {
    assert.equal(chunksFound(stored, guess, now), 0);
  }
  // An epoch bounds a salt, not the secret that every epoch's is derived from.
  assert.ok(chunksFound(stored, secret.salt('team', 6), now) > 1);
});

test('confirmation of a file: who may push to the domain learns it from what is new', async () => {
  const store = new MemoryStore();
  await push(store, 'victim', victim);
  const attack = async (file: Buffer, options: { salt: DedupSalt }) => {
    const name = `attack-${file[0]}-${options.salt.id}`;
    const { report } = await push(store, name, [{ path: name, content: file }], {
      ...options,
      ownerKey: otherKey,
    });
    return report.chunks - report.newChunks;
  };
  assert.equal(await attack(stored, { salt }), sealedChunksOf(stored, salt).length);
  assert.equal(await attack(absent, { salt }), 0);
  assert.equal(await attack(stored, { salt: ownSalt }), 0, 'a pusher of another domain does not');
});

test('learning the remaining information: each value is tried, by who has the salt', async () => {
  const text = manyBytes(new Random(3), 40_000).toString('hex');
  const config = (pin: number) =>
    Buffer.from(`user=admin\npin=${String(pin).padStart(4, '0')}\n${text}`);
  const store = new MemoryStore();
  await push(store, 'victim', [{ path: 'etc/app.conf', content: config(142) }]);
  const listed = listedChunks(store);
  const found = (guess: DedupSalt) =>
    Array.from({ length: 256 }, (_, pin) => pin).filter(pin =>
      sealedChunksOf(config(pin), guess).every(({ id }) => listed.has(id)),
    );
  assert.deepEqual(found(salt), [142]);
  assert.deepEqual(found(ownSalt), []);
});
