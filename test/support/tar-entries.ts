/** A whole tar as a list, read in buffers of any size. */

import { assert } from '../../src/base/assert.ts';
import { type TarEntry, TarReader } from '../../src/oci/layer/tar-reader.ts';

export interface ReadEntry extends TarEntry {
  /** What the archive stores: of a sparse file, its data runs. */
  data: Buffer;
}

export function readTar(tar: Buffer, bufferBytes = tar.length): ReadEntry[] {
  const reader = new TarReader('Cannot read the test');
  const entries: ReadEntry[] = [];
  let parts: Buffer[] = [];
  for (let at = 0; at < tar.length; at += bufferBytes) {
    const buffer = tar.subarray(at, at + bufferBytes);
    reader.feed(buffer);
    for (let event = reader.next(); event !== 'starved'; event = reader.next()) {
      if (event === 'entry') entries.push({ ...reader.entry, data: Buffer.alloc(0) });
      if (event === 'data') {
        assert(reader.data.buffer === buffer.buffer, 'data is not copied');
        parts.push(reader.data);
      }
      if (event !== 'end') continue;
      entries.at(-1)!.data = Buffer.concat(parts);
      parts = [];
    }
  }
  reader.close();
  return entries;
}

/** The one entry of a tar that has but one. */
export function readOne(tar: Buffer): ReadEntry {
  const entries = readTar(tar);
  assert(entries.length === 1, `the tar has ${entries.length} entries`);
  return entries[0]!;
}
