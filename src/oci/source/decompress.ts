/**
 * A layer's blob → its tar. What a blob is compressed with is seen from its first bytes; media
 * types are wrong too often.
 *
 * gzip may have several members (pigz, eStargz), zstd several frames (see zstd-frames.ts). Zeros
 * after the last gzip member are taken as padding, as gzip(1) does; anything else there is CORRUPT,
 * as in Go. The decoders run in libuv's thread pool, ahead of the consumer by a bounded amount.
 */

import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { ImgstoreError } from '../../base/errors.ts';
import { GiB, KiB, zstdWindowMaxBytes } from '../../base/limits.ts';
import { type Decoder, through } from './through-decoder.ts';
import { splitAtFrames } from './zstd-frames.ts';

/** Bytes at the start that tell compressions apart. */
export const magicSizeMaxBytes = 6;

const pieceSizeBytes = 256 * KiB;
/** In object mode pieces are counted, not bytes, and are not glued together on the way out. */
const readAhead = { readableObjectMode: true, readableHighWaterMark: 8 };

export interface DecompressOptions {
  /** Names the blob in messages. */
  label: string;
  /** LIMIT as soon as the output is larger. */
  sizeMaxBytes: number;
}

/** The tar, in pieces that belong to the consumer. Errors of `blob` come through as they are. */
export async function* decompress(
  blob: AsyncIterable<Buffer>,
  options: DecompressOptions,
): AsyncGenerator<Buffer, void> {
  const { label, sizeMaxBytes } = options;
  let sizeBytes = 0;
  for await (const piece of decoded(blob, label)) {
    sizeBytes += piece.length;
    if (sizeBytes > sizeMaxBytes) throw tooLarge(label, sizeMaxBytes);
    yield piece;
  }
}

async function* decoded(blob: AsyncIterable<Buffer>, label: string): AsyncGenerator<Buffer, void> {
  const input = blob[Symbol.asyncIterator]();
  try {
    const head = await firstBytes(input);
    const pieces = startingWith(head, input);
    switch (compressionOf(head)) {
      case 'plain':
        return yield* pieces;
      case 'gzip':
        return yield* through(
          createGunzip({ chunkSize: pieceSizeBytes, ...readAhead }),
          pieces,
          label,
        );
      case 'zstd':
        return yield* through(zstdDecoder(), splitAtFrames(pieces, label), label);
      case 'bzip2':
      case 'xz':
        throw new ImgstoreError(
          'UNSUPPORTED',
          `Cannot read ${label}: its compression is not handled`,
          {
            hint: 'Use gzip, zstd or no compression.',
          },
        );
    }
  } finally {
    await input.return?.();
  }
}

export type Compression = 'plain' | 'gzip' | 'zstd' | 'bzip2' | 'xz';

/** `head` needs magicSizeMaxBytes, or all there are. */
export function compressionOf(head: Uint8Array): Compression {
  const start = Buffer.from(head.subarray(0, magicSizeMaxBytes)).toString('hex');
  if (start.startsWith('1f8b')) return 'gzip';
  if (start.startsWith('28b52ffd') || /^5.2a4d18/.test(start)) return 'zstd';
  if (start.startsWith('425a68')) return 'bzip2';
  if (start.startsWith('fd377a585a00')) return 'xz';
  return 'plain';
}

async function firstBytes(input: AsyncIterator<Buffer>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < magicSizeMaxBytes) {
    const next = await input.next();
    if (next.done === true) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  return head;
}

async function* startingWith(
  head: Buffer,
  rest: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer, void> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    yield next.value;
  }
}

function zstdDecoder(): Decoder {
  const params = { [constants.ZSTD_d_windowLogMax]: Math.log2(zstdWindowMaxBytes) };
  return createZstdDecompress({ chunkSize: pieceSizeBytes, params, ...readAhead });
}

function tooLarge(label: string, sizeMaxBytes: number): ImgstoreError {
  const limit = `${(sizeMaxBytes / GiB).toFixed(1)} GiB`;
  return new ImgstoreError('LIMIT', `Cannot read ${label}: it unpacks to more than ${limit}`, {
    hint: 'Such a layer is most likely made to fill disks; split it if it is not.',
  });
}
