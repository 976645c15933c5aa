/**
 * A secret as the text of a file, which docs/format/key.md describes: plain, or wrapped by a key of
 * AWS KMS. Whoever holds such a value holds no more than the file says: a wrapped secret is opened
 * elsewhere.
 */

import { ImgstoreError } from '../base/errors.ts';
import { type Domain, domainNamePattern, epochDaysMax } from './domain.ts';
import { DedupSalt, DomainSecret, OwnerKey } from './keys.ts';

export interface Secrets {
  owner: OwnerKey;
  salt: DedupSalt;
  domain: DomainSecret;
}

export type KeyKind = keyof Secrets;

/** A secret that AWS KMS opens. */
export interface KmsWrapped {
  keyArn: string;
  wrapped: Buffer;
}

export interface KeyFile<K extends KeyKind = KeyKind> {
  kind: K;
  id: string;
  created: Date;
  /** Of a domain's secret, and of no other. */
  domain?: Domain | undefined;
  held: Secrets[K] | KmsWrapped;
}

/** What the file of a kind is called, in itself and in messages, and what it holds. */
export const kinds: {
  readonly [K in KeyKind]: {
    readonly magic: string;
    readonly title: string;
    /** To who has it made. */
    readonly advice: string;
    readonly make: (bytes: Uint8Array) => Secrets[K];
  };
} = {
  owner: {
    magic: 'imgstore owner-key',
    title: 'the owner key',
    advice: 'keep a copy, nothing that is pushed opens without it',
    make: bytes => new OwnerKey(bytes),
  },
  salt: {
    magic: 'imgstore dedup-salt',
    title: 'the dedup salt',
    advice: 'copy it to who else pushes here, to share chunks',
    make: bytes => new DedupSalt(bytes),
  },
  domain: {
    magic: 'imgstore domain-secret',
    title: "the dedup domain's secret",
    advice: 'copy it to who else pushes into the domain, to share chunks',
    make: bytes => new DomainSecret(bytes),
  },
};

const version = '1';
/** KMS gives at most 6144 bytes of ciphertext: 8192 in base64; the rest is below 1 KiB. */
export const keyFileSizeMaxBytes = 9 * 1024;
/** The region and the account are those that Decrypt is sent to. */
export const kmsKeyArnPattern =
  /^arn:aws[a-z-]{0,20}:kms:([a-z0-9-]{1,32}):[0-9]{12}:key\/[A-Za-z0-9-]{1,64}$/;

const body = new RegExp(
  [
    '^id (?<id>[0-9a-f]{32})\\n',
    'created (?<created>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z)\\n',
    '(?:domain (?<domain>[a-z0-9-]{1,63})\\n(?:epoch-days (?<epochDays>[1-9][0-9]{0,3})\\n)?)?',
    '(?:secret (?<secret>[0-9a-f]{64})',
    '|kms-key (?<keyArn>[\\x21-\\x7e]{1,200})\\nwrapped (?<wrapped>[A-Za-z0-9+/=]{4,8192}))\\n$',
  ].join(''),
);

export function isWrapped(held: KeyFile['held']): held is KmsWrapped {
  return 'wrapped' in held;
}

export function formatKeyFile(file: KeyFile): string {
  const { kind, id, created, domain, held } = file;
  const lines = [`${kinds[kind].magic} ${version}`, `id ${id}`, `created ${created.toISOString()}`];
  if (domain !== undefined) {
    lines.push(`domain ${domain.name}`);
    if (domain.epochDays !== undefined) lines.push(`epoch-days ${domain.epochDays}`);
  }
  if (isWrapped(held)) {
    lines.push(`kms-key ${held.keyArn}`, `wrapped ${held.wrapped.toString('base64')}`);
  } else {
    lines.push(`secret ${held.bytes.toString('hex')}`);
  }
  return `${lines.join('\n')}\n`;
}

/**
 * `path` is for messages only. That a wrapped secret has the id which the file states shows when it
 * is opened. Errors: KEY, without anything of what the file holds.
 */
export function parseKeyFile<K extends KeyKind>(kind: K, text: string, path: string): KeyFile<K> {
  const { magic, title } = kinds[kind];
  const what = `Cannot read ${title} at ${path}`;
  if (!text.startsWith(`${magic} `)) {
    throw new ImgstoreError('KEY', `${what}: the first line is not "${magic} ${version}"`, {
      hint: 'Restore the file from where it is backed up.',
    });
  }
  const lineEnd = text.indexOf('\n');
  if (text.slice(magic.length + 1, lineEnd) !== version) {
    throw new ImgstoreError('KEY', `${what}: it is of another version than ${version}`, {
      hint: 'Use the imgstore that wrote it, or a newer one.',
    });
  }
  const file = parseBody(kind, text.slice(lineEnd + 1));
  if (file === undefined) {
    throw new ImgstoreError('KEY', `${what}: it is damaged`, {
      hint: 'Restore the file from where it is backed up.',
    });
  }
  return file;
}

function parseBody<K extends KeyKind>(kind: K, text: string): KeyFile<K> | undefined {
  const fields = body.exec(text)?.groups;
  if (fields === undefined) return undefined;
  const id = fields['id']!;
  const created = new Date(fields['created']!);
  if (Number.isNaN(created.getTime()) || created.toISOString() !== fields['created']) {
    return undefined;
  }
  const domain = parseDomain(fields['domain'], fields['epochDays']);
  if (domain === 'wrong' || (domain !== undefined) !== (kind === 'domain')) return undefined;
  const held = parseHeld(kind, id, fields);
  return held && { kind, id, created, ...(domain !== undefined && { domain }), held };
}

function parseDomain(
  name: string | undefined,
  epochDays: string | undefined,
): Domain | undefined | 'wrong' {
  if (name === undefined) return undefined;
  const days = epochDays === undefined ? undefined : Number(epochDays);
  if (!domainNamePattern.test(name) || (days ?? 1) > epochDaysMax) return 'wrong';
  return { name, epochDays: days };
}

function parseHeld<K extends KeyKind>(
  kind: K,
  id: string,
  { secret, keyArn, wrapped }: Readonly<Record<string, string | undefined>>,
): Secrets[K] | KmsWrapped | undefined {
  if (secret !== undefined) {
    const key = kinds[kind].make(Buffer.from(secret, 'hex'));
    return key.id === id ? key : undefined;
  }
  const bytes = Buffer.from(wrapped!, 'base64');
  if (!kmsKeyArnPattern.test(keyArn!) || bytes.toString('base64') !== wrapped) return undefined;
  return { keyArn: keyArn!, wrapped: bytes };
}
