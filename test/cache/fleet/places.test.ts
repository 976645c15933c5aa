import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placesOf, standInsMax } from '../../../src/cache/fleet/places.ts';
import { seeded } from '../../support/random.ts';

const ranked = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
function without(out: string, nodes = ranked) {
  const { places, replaced } = placesOf(nodes, 5, node => out.includes(node));
  return { places, replaced };
}

test('while all is well the first nodes have the shards, in order', () => {
  assert.deepEqual(without(''), { places: ['a', 'b', 'c', 'd', 'e'], replaced: [] });
  assert.deepEqual(
    without('fg').places,
    ['a', 'b', 'c', 'd', 'e'],
    'those that stand in may be out',
  );
});

test('the next ones stand in for those that are out, and all others keep their shards', () => {
  assert.deepEqual(without('b'), { places: ['a', 'f', 'c', 'd', 'e'], replaced: ['b'] });
  assert.deepEqual(without('be'), { places: ['a', 'f', 'c', 'd', 'g'], replaced: ['b', 'e'] });
  assert.deepEqual(without('bf'), { places: ['a', 'g', 'c', 'd', 'e'], replaced: ['b'] });
});

test('those that are next are told, if they are not out and have no place', () => {
  const next = (out: string) => placesOf(ranked, 5, node => out.includes(node)).standIns;
  assert.deepEqual(['', 'b', 'f', 'be'].map(next), [['f', 'g'], ['g'], ['g'], []]);
});

test('without a node to stand in, one that is out keeps its place', () => {
  assert.deepEqual(without('ace'), { places: ['f', 'b', 'g', 'd', 'e'], replaced: ['a', 'c'] });
  const five = without('a', ranked.slice(0, 5));
  assert.deepEqual(five, { places: ['a', 'b', 'c', 'd', 'e'], replaced: [] });
});

test('every node has one place at most, whoever is out', () => {
  for (const random of seeded(200)) {
    const out = new Set(ranked.filter(() => random.below(3) === 0));
    const { places, replaced } = placesOf(ranked, 5, node => out.has(node));
    assert.equal(places.length, 5);
    assert.equal(new Set([...places, ...replaced]).size, 5 + replaced.length);
    assert.ok(replaced.every(node => out.has(node)) && replaced.length <= standInsMax);
  }
});
