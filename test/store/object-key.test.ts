import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isObjectKey } from '../../src/store/object-key.ts';
import { seeded } from '../support/random.ts';

test('keys are bounded in all and by part', () => {
  const part = 'x'.repeat(255);
  assert.ok(isObjectKey(part));
  assert.ok(isObjectKey(`${part}/${part}`));
  assert.ok(isObjectKey(`${part}/${part.slice(1)}/x`.slice(0, 512)));
  assert.ok(!isObjectKey(`${part}x`));
  assert.ok(!isObjectKey(`${part}/${part}/x`));
});

test('whatever is a key stays below the folder that it is joined to', () => {
  for (const random of seeded(3000)) {
    const text = random.text(random.between(1, 12), '../ab\\\0%~');
    if (!isObjectKey(text)) continue;
    const path = new URL(`file:///store/${text.replaceAll('%', '%25')}`).pathname;
    assert.equal(decodeURIComponent(path), `/store/${text}`, `seed ${random.seed}`);
  }
});

test('a long text that is no key is refused without delay', () => {
  const startedMs = performance.now();
  assert.ok(!isObjectKey(`${'a'.repeat(50_000_000)}!`));
  assert.ok(!isObjectKey(`${'a/'.repeat(256).slice(0, -1)}!`));
  assert.ok(performance.now() - startedMs < 1000);
});
