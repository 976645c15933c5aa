import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type OciDigest, ociDigest } from '../../../src/base/digest.ts';
import { GiB, MiB } from '../../../src/base/limits.ts';
import { layerSizeMax, readLayer } from '../../../src/oci/source/blob-image.ts';
import { type BlobSource, readBlob, readDocument } from '../../../src/oci/source/blob-source.ts';
import { assertFault, collect, inPieces } from './streams.ts';

const content = Buffer.from('what was stored');
const blob = { kind: 'layer', digest: ociDigest(content), sizeBytes: content.length };

/** Says `sizeBytes` of every blob and gives `bytes` for every blob. */
function sourceOf(bytes: Buffer, sizeBytes: number | undefined): BlobSource & { open: number } {
  return {
    reference: 'oci:lies',
    open: 0,
    sizeOf: () => Promise.resolve(sizeBytes),
    async *read() {
      this.open++;
      try {
        yield* inPieces(bytes, 4);
      } finally {
        this.open--;
      }
    },
    close: () => Promise.resolve(),
  };
}

test('a blob is read whole if size and digest are right', async () => {
  const source = sourceOf(content, content.length);
  assert.ok((await collect(readBlob(source, blob, {}))).equals(content));
  const document = await readDocument(source, blob, { sizeMaxBytes: content.length });
  assert.ok(document.equals(content));
  const tight = { sizeMaxBytes: content.length - 1 };
  await assertFault(readDocument(source, blob, tight), 'LIMIT', 'layer sha256:', 'oci:lies');
});

test('a source that lies about size or content is found out', async () => {
  const mentions = [`layer ${blob.digest} of oci:lies`] as const;
  const longer = Buffer.concat([content, content]);
  const other = Buffer.from('what was storeD');
  const lies: [bytes: Buffer, sizeBytes: number | undefined][] = [
    [content, content.length + 1],
    [longer, content.length],
    [longer, longer.length],
    [content.subarray(1), content.length],
    [Buffer.alloc(0), content.length],
    [other, content.length],
  ];
  for (const [bytes, sizeBytes] of lies) {
    const source = sourceOf(bytes, sizeBytes);
    await assertFault(collect(readBlob(source, blob, {})), 'CORRUPT', ...mentions);
    assert.equal(source.open, 0);
  }
  const absent = sourceOf(content, undefined);
  await assertFault(collect(readBlob(absent, blob, {})), 'NOT_FOUND', ...mentions);
});

test('a blob that never ends is not read beyond its size', async () => {
  let given = 0;
  const source: BlobSource = {
    ...sourceOf(content, content.length),
    async *read() {
      for (;;) {
        given++;
        yield Buffer.from('x');
      }
    },
  };
  await assertFault(collect(readBlob(source, blob, {})), 'CORRUPT', 'oci:lies');
  assert.equal(given, content.length + 1);
});

test('a layer may unpack to 16 GiB, or to 200 times its size if that is more', () => {
  assert.equal(layerSizeMax(0), 16 * GiB);
  assert.equal(layerSizeMax(50 * MiB), 16 * GiB);
  assert.equal(layerSizeMax(1 * GiB), 200 * GiB);
});

test('a layer that unpacks to more than its limit is stopped', async () => {
  const tar = Buffer.alloc(2 * MiB);
  const stored = gzipSync(tar);
  const layer = {
    digest: ociDigest(stored),
    sizeBytes: stored.length,
    diffId: ociDigest(tar) as OciDigest,
  };
  const read = (sizeMaxBytes: number) =>
    collect(readLayer(sourceOf(stored, stored.length), layer, { sizeMaxBytes }));
  assert.ok((await read(2 * MiB)).equals(tar));
  await assertFault(read(2 * MiB - 1), 'LIMIT', layer.digest, 'oci:lies');
});
