/**
 * The two secrets of those who push, as values; docs/format/key.md tells them apart.
 *
 * Invariant: the bytes are behind a private field, and what prints or serialises a key shows its
 * id alone, so that no log line, message or JSON document carries a secret by accident.
 */

import { createHmac, hkdfSync } from 'node:crypto';
import { inspect } from 'node:util';
import { assert } from '../base/assert.ts';

export const secretSizeBytes = 32;
/** A key's id as it is printed: 32 lower-case hexadecimal digits. */
export const keyIdPattern = /^[0-9a-f]{32}$/;
export const keyIdSizeBytes = 16;

const ownerIdLabel = 'imgstore owner key id';
const saltIdLabel = 'imgstore dedup salt id';

// A chunk key is an HMAC under the salt of a 32-byte hash, so an id must not be one as well.
assert(saltIdLabel.length !== 32, 'the id of a salt is never a chunk key');

class Secret {
  /** The first 16 bytes of an HMAC under the secret: tells keys apart and gives nothing away. */
  readonly id: string;
  readonly #bytes: Buffer;

  constructor(bytes: Uint8Array, idLabel: string) {
    assert(bytes.length === secretSizeBytes, 'a secret has 32 bytes');
    this.#bytes = Buffer.from(bytes);
    const mac = createHmac('sha256', this.#bytes).update(idLabel).digest();
    this.id = mac.toString('hex', 0, keyIdSizeBytes);
  }

  /** 32 bytes, not a copy: nobody writes to them. */
  get bytes(): Buffer {
    return this.#bytes;
  }

  toJSON(): { id: string } {
    return { id: this.id };
  }

  [inspect.custom](): string {
    return `${this.constructor.name} { id: '${this.id}' }`;
  }
}

/** Opens recipes and vouches for names. */
export class OwnerKey extends Secret {
  readonly kind = 'owner';

  constructor(bytes: Uint8Array) {
    super(bytes, ownerIdLabel);
  }

  /**
   * 32 bytes for one purpose: HKDF-SHA-256 (RFC 5869) with no salt and the label as info. Labels
   * are fixed texts; what is derived for one says nothing about the key or about another.
   */
  subkey(label: string): Buffer {
    return Buffer.from(hkdfSync('sha256', this.bytes, '', label, secretSizeBytes));
  }
}

/** What chunk keys are made with; whoever only reads does not need it. */
export class DedupSalt extends Secret {
  readonly kind = 'salt';

  constructor(bytes: Uint8Array) {
    super(bytes, saltIdLabel);
  }
}
