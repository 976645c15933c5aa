import assert from 'node:assert/strict';
import { test } from 'node:test';
import { headSizeBytes, layOut } from '../../src/erofs/layout.ts';
import type { FileShape } from '../../src/erofs/placement.ts';
import { type PlannedInode, planInodes } from '../../src/erofs/plan.ts';
import { TreeMaker } from '../support/disk-file.ts';
import { seeded } from '../support/random.ts';
import { randomTree } from '../support/random-tree.ts';

function shapeOfFile(planned: PlannedInode): FileShape {
  if (planned.sizeBytes <= 512) return { kind: 'inline', bytes: Buffer.alloc(planned.sizeBytes) };
  if (planned.sizeBytes % 3 === 0) return { kind: 'flat', dataOffsetBytes: 0 };
  const entryCount = planned.sizeBytes % (planned.sizeBytes % 50 === 0 ? 10_000 : 500);
  return { kind: 'chunks', chunkSizeBytes: 65_536, entryCount, extents: [] };
}

function bodySizeBytes(planned: PlannedInode): number {
  const shape = planned.inode.kind === 'file' ? shapeOfFile(planned) : undefined;
  if (shape?.kind === 'chunks') return shape.entryCount * 4;
  return planned.layout === 2 ? planned.sizeBytes % 4096 : 0;
}

test('pieces do not overlap, nor cross a block if they fit one; little is left free', () => {
  for (const random of seeded(60)) {
    const { tree } = randomTree(random, 2000);
    const plan = planInodes(tree);
    const layout = layOut(plan, shapeOfFile);
    const pieces: [start: number, end: number][] = [[0, 1152]];
    if (layout.xattrBlock > 0) {
      const start = layout.xattrBlock * 4096;
      pieces.push([start, start + layout.xattrAreaSizeBytes]);
    }
    for (const planned of plan.inodes) {
      const start = planned.nid * 32;
      const length = headSizeBytes(planned) + bodySizeBytes(planned);
      pieces.push([start, start + length]);
      if (length <= 4096) assert.ok((start % 4096) + length <= 4096, `seed ${random.seed}`);
      else assert.equal(start % 4096, 0, `seed ${random.seed}`);
      const own = planned.ownBlock * 4096;
      if (planned.ownBlockCount > 0) pieces.push([own, own + planned.ownBlockCount * 4096]);
    }
    pieces.sort(([a], [b]) => a - b);
    let usedBytes = 0;
    for (const [i, [start, end]] of pieces.entries()) {
      const next = pieces[i + 1]?.[0] ?? layout.sizeBytes;
      assert.ok(end <= next, `seed ${random.seed}: ${start} to ${end} overlaps ${next}`);
      usedBytes += Math.ceil(end / 32) * 32 - start;
    }
    assert.ok(plan.inodes[0]!.nid >= 36 && plan.inodes[0]!.nid <= 0xffff);
    if (plan.inodes.length > 500)
      assert.ok(usedBytes / layout.sizeBytes > 0.9, `seed ${random.seed}: ${usedBytes}`);
  }
});

test('the root comes first, however large, and shared attributes after it', () => {
  const maker = new TreeMaker();
  const label = new Map([['trusted.l' as never, Buffer.alloc(1000, 1)]]);
  const big = new Map([['trusted.big' as never, Buffer.alloc(60_000, 1)]]);
  const root = maker.directory({}, { xattrs: big });
  for (let i = 0; i < 500; i++) {
    const inode = i < 2 ? maker.fifo({ xattrs: label }) : maker.fifo();
    root.entries.set(`${i}`.padStart(200, '0') as never, inode);
  }
  const plan = planInodes({ root });
  const layout = layOut(plan, shapeOfFile);
  assert.equal(plan.inodes[0]!.nid, 4096 / 32);
  assert.equal(layout.xattrBlock, 1 + Math.ceil((64 + 12 + 60_016) / 4096));
  assert.equal(plan.inodes[0]!.ownBlock, layout.xattrBlock + 1);
});
