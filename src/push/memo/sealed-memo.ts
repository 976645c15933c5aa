/**
 * A memo as it is kept: sealed under a key of the dedup salt, since it names the image's files and
 * holds the keys of its chunks. What does not open, whatever became of it, is no memo.
 */

import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { DedupSalt } from '../../keys/keys.ts';
import type { SourceLayer } from '../../oci/source-image.ts';
import { pipelineId } from '../pipeline.ts';
import {
  cipherName,
  headerNonceAt,
  headerSizeBytes,
  headerVersionAt,
  memoMagic,
  memoVersion,
  nonceSizeBytes,
  tagSizeBytes,
} from './format.ts';

const label = 'imgstore layer memo 1';

/** The name of a layer's memo, which says nothing of the layer, and the key that seals it. */
export interface MemoKey {
  /** 64 hexadecimal digits. */
  name: string;
  bytes: Buffer;
}

/** Of the same layer, under the same salt and rules: the contents of a memo depend on these. */
export function memoKey(salt: DedupSalt, { digest, diffId }: SourceLayer): MemoKey {
  const subkey = salt.subkey(label);
  const derive = (purpose: string) =>
    createHmac('sha256', subkey)
      .update([purpose, memoVersion, digest, diffId, pipelineId].join('\n'))
      .digest();
  return { name: derive('name').toString('hex'), bytes: derive('key') };
}

/** In pieces; those of the body are not needed any more. The same body gives the same bytes. */
export function sealMemo(body: readonly Buffer[], { bytes: key }: MemoKey): Buffer[] {
  const mac = createHmac('sha256', key);
  for (const piece of body) mac.update(piece);
  const nonce = mac.digest().subarray(0, nonceSizeBytes);
  const header = Buffer.alloc(headerSizeBytes);
  memoMagic.copy(header);
  header.writeUInt16LE(memoVersion, headerVersionAt);
  nonce.copy(header, headerNonceAt);
  const cipher = createCipheriv(cipherName, key, nonce, { authTagLength: tagSizeBytes });
  cipher.setAAD(header);
  const encrypted = body.map(piece => cipher.update(piece));
  cipher.final();
  return [header, ...encrypted, cipher.getAuthTag()];
}

/** The body; undefined if these are not the bytes of a memo under this key. */
export function openMemo(bytes: Buffer, { bytes: key }: MemoKey): Buffer | undefined {
  const tagAt = bytes.length - tagSizeBytes;
  const header = bytes.subarray(0, headerSizeBytes);
  const isMemo =
    tagAt >= headerSizeBytes &&
    bytes.subarray(0, memoMagic.length).equals(memoMagic) &&
    bytes.readUInt16LE(headerVersionAt) === memoVersion;
  if (!isMemo) return undefined;
  const nonce = header.subarray(headerNonceAt);
  const decipher = createDecipheriv(cipherName, key, nonce, { authTagLength: tagSizeBytes });
  decipher.setAAD(header);
  decipher.setAuthTag(bytes.subarray(tagAt));
  const body = decipher.update(bytes.subarray(headerSizeBytes, tagAt));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return body;
}
