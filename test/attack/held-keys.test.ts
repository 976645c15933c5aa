/**
 * The owner of a key that a home holds, with the salt of its domain and the right to put objects: its
 * recipes are readable there, and name another object beside the key of a known chunk.
 */

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { test } from 'node:test';
import { pushImage } from '../../src/push/push.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import { chunkIdOf } from '../../src/seal/seal.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, salt, TestImage, targetOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { otherKey, ownerKey } from '../support/recipes.ts';
import { push } from './attacker.ts';

test('a key that is only held says nothing of which object a chunk is', async () => {
  const file = manyBytes(new Random(5), 100_000);
  const entries = [{ path: 'bin', content: file }];
  const store = new MemoryStore();
  // The attacker: same domain (salt), its own owner key, may put to the store.
  const theirs = await push(store, 'theirs', entries, { ownerKey: otherKey });
  const catalog = new TestCatalog(theirs.roots, otherKey);
  const segments = await Promise.all(
    theirs.recipe.segments.map(async segment => {
      if (segment.kind !== 'chunk' || segment.plainSizeBytes < 100_000) return segment;
      const evil = Buffer.concat([Buffer.of(0), Buffer.alloc(segment.plainSizeBytes, 'EVIL')]);
      const nonce = Buffer.alloc(12, 7);
      const cipher = createCipheriv('aes-256-gcm', segment.key, nonce);
      const sealed = Buffer.concat([
        nonce,
        cipher.update(evil),
        cipher.final(),
        cipher.getAuthTag(),
      ]);
      const id = chunkIdOf(sealed);
      await store.put(`roots/r0001/chunks/${chunkObjectKey(id)}`, sealed, { ifAbsent: true });
      return { ...segment, id, sealedSizeBytes: sealed.length };
    }),
  );
  await catalog.commit(
    parseImageName('theirs'),
    { ...theirs.recipe, segments },
    { now: new Date() },
  );

  // The victim holds the attacker's key to read its images (imgstore key import), and pushes the file.
  const target = await targetOn(store, 'mine', { salt });
  const mine = new TestCatalog(target.roots, ownerKey, otherKey);
  await pushImage(new TestImage([entries]), { ...target, catalog: mine });
  const { recipe } = await mine.open(parseImageName('mine'));
  const disk = await diskOf(recipe, target.roots).readBuffer(0, recipe.diskSizeBytes);
  assert.ok(!disk.includes('EVILEVIL'), 'the victim’s own image holds the attacker’s bytes');
  assert.ok(disk.includes(file));
});
