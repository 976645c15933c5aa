/** Layers made to cost much: every bound holds, and work stays in proportion to the layer. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byteStringOfText } from '../../../src/base/byte-string.ts';
import { symlinkStepsMax, treeEntriesMax, treeMetadataMaxBytes } from '../../../src/base/limits.ts';
import { Budget } from '../../../src/oci/layer/budget.ts';
import type { LayerRecord } from '../../../src/oci/layer/layer-record.ts';
import { TreeBuilder } from '../../../src/oci/layer/tree-builder.ts';
import type { Attributes } from '../../../src/tree/tree.ts';

const attributes: Attributes = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  xattrs: new Map(),
};

const path = byteStringOfText;

function fifo(name: string): LayerRecord {
  return { kind: 'inode', path: path(name), inode: { kind: 'fifo', ...attributes } };
}

function symlink(name: string, target: string): LayerRecord {
  return {
    kind: 'inode',
    path: path(name),
    inode: { kind: 'symlink', ...attributes, target: path(target) },
  };
}

test('entries, claims, metadata and symlink steps are bounded', () => {
  const budget = new Budget();
  for (let i = 0; i < treeEntriesMax; i++) budget.addEntry();
  assert.throws(() => budget.addEntry(), /more than 4000000 entries/);
  for (let i = 0; i < treeEntriesMax; i++) budget.addClaim();
  assert.throws(() => budget.addClaim(), /more than 4000000 entries/);
  budget.addMetadata(treeMetadataMaxBytes);
  assert.throws(() => budget.addMetadata(1), /xattrs and sparse maps/);
  budget.addSymlinkSteps(symlinkStepsMax);
  assert.throws(() => budget.addSymlinkSteps(1), /too many symlinks/);
});

test('implied directories count as entries', () => {
  const budget = new Budget();
  for (let i = 0; i < treeEntriesMax - 2; i++) budget.addEntry();
  const builder = new TreeBuilder(budget);
  builder.apply(fifo('a/b/x'));
  assert.throws(() => builder.apply(fifo('c/x')), /entries/);
});

test('symlinks that multiply the way of every entry run into their bound', () => {
  const builder = new TreeBuilder(new Budget());
  const long = 'd/../'.repeat(800);
  for (let i = 0; i < 250; i++) builder.apply(symlink(`s${i}`, `${long}s${i + 1}`));
  builder.apply(fifo('s250/x'));
  const walks = () => {
    // Two parents by turns, so that neither is remembered.
    for (let i = 0; i < 200_000; i++) builder.apply(fifo(`s${i % 2}/x`));
  };
  assert.throws(walks, /too many symlinks/);
});

test('thirty thousand opaque markers over thirty thousand entries take no square of time', () => {
  const builder = new TreeBuilder(new Budget());
  const count = 30_000;
  for (let i = 0; i < count; i++) builder.apply(fifo(`d/sub/${i}`));
  builder.endLayer();
  for (let i = 0; i < count; i++) builder.apply(fifo(`d/sub/new${i}`));
  const startMs = process.cpuUsage().user / 1000;
  for (let i = 0; i < count; i++) {
    builder.apply({ kind: 'opaque', path: path('d') });
    builder.apply({ kind: 'opaque', path: path('d/sub') });
    builder.apply({ kind: 'whiteout', path: path('d') });
  }
  const tookMs = process.cpuUsage().user / 1000 - startMs;
  const sub = builder.tree.root.entries.get(path('d'));
  assert.ok(sub?.kind === 'directory');
  const left = sub.entries.get(path('sub'));
  assert.equal(left?.kind === 'directory' && left.entries.size, count);
  // Looked at once each it is some milliseconds; 30,000 times 30,000 would be a minute.
  assert.ok(tookMs < 5000, `${tookMs} ms`);
});

test('hard links that wait for each other are looked at twice, not more', () => {
  const builder = new TreeBuilder(new Budget());
  const count = 50_000;
  for (let i = 0; i < count; i++)
    builder.apply({
      kind: 'hard-link',
      path: path(`l${i}`),
      target: path(`l${i + 1}`),
      attributes,
    });
  const waiting = builder.takeWaitingLinks();
  assert.equal(waiting.length, count);
  assert.throws(() => builder.applyWaitingLink(waiting[0]!), /links to l1, which is not there/);
});
