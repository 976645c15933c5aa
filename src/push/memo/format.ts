/**
 * A layer memo, version 1, as docs/format/layer-memo.md describes it: what a push keeps of a layer on
 * its own machine, so that the next one need not read the layer again.
 *
 *   magic ‖ version ‖ nonce ‖ AES-256-GCM(body) ‖ tag
 *   body: entries ‖ packs ‖ trailer
 *
 * Fixed numbers are little-endian; a varint is LEB128, of at most 2^53.
 */

import type { TarEntryType } from '../../oci/layer/tar-reader.ts';

export const memoVersion = 1;
export const memoMagic = Buffer.from('imglyr', 'latin1');

export const cipherName = 'aes-256-gcm';
/** u16. */
export const headerVersionAt = 6;
export const headerNonceAt = 8;
export const nonceSizeBytes = 12;
export const headerSizeBytes = headerNonceAt + nonceSizeBytes;
export const tagSizeBytes = 16;
export const keySizeBytes = 32;
export const digestSizeBytes = 32;

/** The last bytes of the body: u32 entries, u32 packs, u32 where the packs begin. */
export const trailerEntryCountAt = 0;
export const trailerPackCountAt = 4;
export const trailerPacksAt = 8;
export const trailerSizeBytes = 12;

/** An entry's first byte: its type's place in this list, and flags. */
export const entryTypes: readonly TarEntryType[] = [
  'file',
  'hard-link',
  'symlink',
  'character-device',
  'block-device',
  'directory',
  'fifo',
];
export const entryTypeMask = 0x0f;
export const entryHasXattrs = 0x10;
export const entryHasRuns = 0x20;

/** Behind a file's entry: what became of its content. */
export const contentKinds = {
  /** It was not wanted. */
  none: 0,
  /** The bytes, as many as the file has. */
  inline: 1,
  /** Small: its SHA-256, varint of the pack, varint of the block in the pack. */
  packed: 2,
  /** Small, and equal to one of another layer or an earlier one of this: its SHA-256. */
  equal: 3,
  /** Large: its identity (32 bytes), varint of the pieces, then each piece. */
  large: 4,
} as const;

/** A pack: chunk key, varint of its plain size, varint of its files. */
export const packSizeMinBytes = keySizeBytes + 2;
/** A piece: three varints and a chunk key. */
export const pieceSizeMinBytes = 3 + keySizeBytes;
