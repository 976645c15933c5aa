/** The format written down a second time, from docs/format/sealed-chunk.md, on @noble's primitives. */

import { gcm } from '@noble/ciphers/aes.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';

export const salt = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
export const key = Buffer.alloc(32, 0x4b);

export function referenceKey(plain: Uint8Array, dedupSalt: Uint8Array): Buffer {
  return Buffer.from(hmac(sha256, dedupSalt, sha256(plain)));
}

/** A sealed chunk with any codec byte and data, wrong ones too. */
export function referenceSeal(codec: number, data: Uint8Array, chunkKey: Uint8Array): Buffer {
  const payload = Buffer.concat([Buffer.of(codec), data]);
  const nonce = hmac(sha256, chunkKey, payload).subarray(0, 12);
  return Buffer.concat([nonce, gcm(chunkKey, nonce).encrypt(payload)]);
}

/** The payload: codec byte and data. Throws if the tag is wrong. */
export function referencePayload(sealed: Uint8Array, chunkKey: Uint8Array): Buffer {
  return Buffer.from(gcm(chunkKey, sealed.subarray(0, 12)).decrypt(sealed.subarray(12)));
}

/** Text that zstd shrinks to less than a tenth. */
export function textOf(sizeBytes: number): Buffer {
  let text = '';
  for (let line = 0; text.length < sizeBytes; line++) text += `line ${line} of ${line >> 3}\n`;
  return Buffer.from(text.slice(0, sizeBytes), 'latin1');
}

/** Zeros as a zstd frame by hand (RFC 8878): a header, then blocks of one byte repeated. */
export function zeroFrame(options: {
  sizeBytes: number;
  /** Exponent of the window that the frame asks for; undefined: the window is the content size. */
  windowLog: number | undefined;
  saysItsSize: boolean;
}): Buffer {
  const { sizeBytes, windowLog, saysItsSize } = options;
  const blockMax = 128 * 1024;
  const magic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
  const descriptor = (saysItsSize ? 2 << 6 : 0) | (windowLog === undefined ? 1 << 5 : 0);
  const header = [descriptor, ...(windowLog === undefined ? [] : [(windowLog - 10) << 3])];
  const size = Buffer.alloc(saysItsSize ? 4 : 0);
  if (saysItsSize) size.writeUInt32LE(sizeBytes);
  const blocks: Buffer[] = [];
  for (let left = sizeBytes; left > 0; left -= blockMax) {
    const blockSize = Math.min(left, blockMax);
    const block = Buffer.alloc(4);
    block.writeUIntLE((blockSize << 3) | (1 << 1) | (left <= blockMax ? 1 : 0), 0, 3);
    blocks.push(block);
  }
  return Buffer.concat([magic, Buffer.from(header), size, ...blocks]);
}
