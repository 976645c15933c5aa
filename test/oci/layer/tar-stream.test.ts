/** tar-stream as a second opinion, on what it reads and writes right. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import tarStream from 'tar-stream';
import type { TarEntryType } from '../../../src/oci/layer/tar-reader.ts';
import { type Random, seeded } from '../../support/random.ts';
import { type LayerEntry, tarOf } from '../../support/tar-builder.ts';
import { type ReadEntry, readTar } from '../../support/tar-entries.ts';

interface Seen {
  path: string;
  type: string;
  mode: number;
  uid: number;
  gid: number;
  mtimeMs: number;
  target: string;
  data: string;
}

const foreignTypes: Record<string, TarEntryType> = {
  file: 'file',
  'contiguous-file': 'file',
  link: 'hard-link',
  symlink: 'symlink',
  directory: 'directory',
  fifo: 'fifo',
};

function randomEntries(random: Random): LayerEntry[] {
  return Array.from({ length: random.between(1, 20) }, (_, i): LayerEntry => {
    const path = `${i}-${random.text(random.pick([1, 90, 99, 100, 101, 300]), 'ab/é')}z`;
    const type = random.pick(['file', 'directory', 'symlink', 'hard-link', 'fifo'] as const);
    const common = { path: Buffer.from(path).toString('latin1'), type, mode: random.below(0o7777) };
    const owner = { uid: random.below(100_000), gid: random.below(100_000) };
    const mtimeSeconds = random.below(2 ** 31);
    if (type === 'file')
      return { ...common, ...owner, mtimeSeconds, content: random.bytes(random.below(3000)) };
    const linked = type === 'symlink' || type === 'hard-link';
    const target = linked ? random.text(random.pick([5, 100, 150]), 'xyz') : '';
    return { ...common, ...owner, mtimeSeconds, target };
  });
}

function ours({ path, type, mode, uid, gid, mtimeSeconds, linkPath, data }: ReadEntry): Seen {
  const shown = Buffer.from(path, 'latin1').toString();
  const digest = data.toString('latin1');
  const common = { path: shown, type, mode, uid, gid, mtimeMs: mtimeSeconds * 1000 };
  return { ...common, target: linkPath, data: digest };
}

async function theirs(tar: Buffer): Promise<Seen[]> {
  const seen: Seen[] = [];
  const extract = tarStream.extract();
  extract.end(tar);
  for await (const entry of extract) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    const { header } = entry;
    seen.push({
      path: header.name,
      type: foreignTypes[header.type ?? 'file'] ?? 'other',
      mode: header.mode ?? 0,
      uid: header.uid ?? 0,
      gid: header.gid ?? 0,
      mtimeMs: header.mtime?.getTime() ?? 0,
      target: header.linkname ?? '',
      data: Buffer.concat(parts).toString('latin1'),
    });
  }
  return seen;
}

test('tar-stream reads the same from plain archives', async () => {
  for (const random of seeded(30)) {
    const tar = tarOf(randomEntries(random));
    assert.deepEqual(readTar(tar, 700).map(ours), await theirs(tar), `seed ${random.seed}`);
  }
});

test('what tar-stream writes is read', async () => {
  for (const random of seeded(30)) {
    const entries = randomEntries(random).filter(entry => entry.type !== 'fifo');
    const pack = tarStream.pack();
    for (const entry of entries) {
      const { path, type, mode, uid, gid, target } = entry;
      const header = {
        name: Buffer.from(path, 'latin1').toString(),
        type: type === 'hard-link' ? ('link' as const) : (type as 'file' | 'directory' | 'symlink'),
        mode: mode!,
        uid: uid!,
        gid: gid!,
        mtime: new Date(entry.mtimeSeconds! * 1000),
        ...(target ? { linkname: target } : {}),
      };
      if (type === 'file') pack.entry(header, entry.content as Buffer);
      else pack.entry(header);
    }
    pack.finalize();
    const parts: Buffer[] = [];
    for await (const part of pack) parts.push(part as Buffer);
    const tar = Buffer.concat(parts);
    assert.equal(readTar(tar).length, entries.length);
    assert.deepEqual(readTar(tar, 333).map(ours), await theirs(tar), `seed ${random.seed}`);
  }
});
