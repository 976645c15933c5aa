/**
 * The secrets of those who push, as values; docs/format/key.md tells them apart.
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
const domainIdLabel = 'imgstore domain secret id';
const domainSaltLabel = 'imgstore domain salt 1';

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

  /**
   * 32 bytes for one purpose: HKDF-SHA-256 (RFC 5869) with no salt and the label as info. What is
   * derived for one label says nothing about the secret or about another label.
   */
  subkey(label: string): Buffer {
    return Buffer.from(hkdfSync('sha256', this.bytes, '', label, secretSizeBytes));
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
}

/** Which salt of which domain; nothing for the salt of the default domain. */
export interface SaltPlace {
  domain?: string | undefined;
  epoch?: number | undefined;
}

/** What chunk keys are made with; whoever only reads does not need it. */
export class DedupSalt extends Secret {
  readonly kind = 'salt';
  /** Undefined for the default domain. */
  readonly domain: string | undefined;
  /** Undefined for a domain without epochs. */
  readonly epoch: number | undefined;

  constructor(bytes: Uint8Array, { domain, epoch }: SaltPlace = {}) {
    super(bytes, saltIdLabel);
    this.domain = domain;
    this.epoch = epoch;
  }
}

/** What the salts of a domain are derived from. */
export class DomainSecret extends Secret {
  readonly kind = 'domain';

  constructor(bytes: Uint8Array) {
    super(bytes, domainIdLabel);
  }

  /** The name is part of what is derived: two domains never have one salt. */
  salt(domain: string, epoch: number | undefined): DedupSalt {
    const period = epoch === undefined ? '' : ` epoch ${epoch}`;
    return new DedupSalt(this.subkey(`${domainSaltLabel} ${domain}${period}`), { domain, epoch });
  }
}
