import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ByteString, byteStringOfText } from '../../../src/base/byte-string.ts';
import { ociDigest, sha256 } from '../../../src/base/digest.ts';
import { FilePacker } from '../../../src/chunk/file-packer.ts';
import { BadMemo } from '../../../src/oci/layer/layer-memo.ts';
import type { TarEntry, TarEntryType } from '../../../src/oci/layer/tar-reader.ts';
import { entryTypes } from '../../../src/push/memo/format.ts';
import {
  type MemoContent,
  type MemoPlace,
  MemoReader,
} from '../../../src/push/memo/memo-reader.ts';
import { MemoWriter } from '../../../src/push/memo/memo-writer.ts';
import { memoKey, openMemo, sealMemo } from '../../../src/push/memo/sealed-memo.ts';
import { salt } from '../../support/pushing.ts';
import { Random, seeded } from '../../support/random.ts';

const none: MemoContent = { kind: 'none' };

interface Noted {
  entry: TarEntry;
  content: MemoContent;
}

function plainEntry(type: TarEntryType, path: string): TarEntry {
  return {
    type,
    path: byteStringOfText(path),
    linkPath: '' as ByteString,
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeSeconds: 1_700_000_000,
    mtimeNanoseconds: 0,
    xattrs: undefined,
    major: 0,
    minor: 0,
    sizeBytes: 0,
    runs: undefined,
  };
}

function randomEntry(random: Random): TarEntry {
  const type = random.pick(entryTypes);
  const text = (lengthMax: number) =>
    random.bytes(random.below(lengthMax)).toString('latin1') as ByteString;
  const wide = () => random.pick([0, 7, -1, 2 ** 40, -(2 ** 53), 2 ** 53 - 1]);
  const entry = {
    ...plainEntry(type, random.text(random.below(9), 'ab/')),
    mode: wide(),
    uid: wide(),
    gid: wide(),
    mtimeSeconds: wide(),
    mtimeNanoseconds: random.below(1e9),
  };
  if (random.chance(0.3)) entry.path = text(300);
  if (random.chance(0.2)) {
    const names = Array.from({ length: random.between(1, 3) }, (_, i) => `${i}${text(9)}`);
    entry.xattrs = new Map(names.map(name => [name as ByteString, text(500)]));
  }
  if (type === 'hard-link' || type === 'symlink') entry.linkPath = text(200);
  if (type.endsWith('device')) Object.assign(entry, { major: wide(), minor: wide() });
  if (type === 'file' && random.chance(0.2)) {
    entry.runs = Array.from({ length: random.below(4) }, (_, i) => {
      return { offsetBytes: i * 1000 + random.below(500), lengthBytes: random.below(500) };
    });
    entry.sizeBytes = random.between(4000, 2 ** 30);
  } else if (type === 'file') entry.sizeBytes = random.below(random.pick([5, 600, 70_000]));
  return entry;
}

/** Tells the writer of a content of that size, or of none; gives what a reader has to find. */
function noteContent(writer: MemoWriter, sizeBytes: number, random: Random): MemoContent {
  if (random.chance(0.2)) return none;
  if (sizeBytes <= 512) {
    const bytes = random.bytes(sizeBytes);
    writer.inline(bytes);
    return { kind: 'inline', bytes };
  }
  const digest = random.bytes(32);
  if (sizeBytes < 65_536) {
    writer.small(digest, { isPacked: false });
    return { kind: 'small', digest, place: undefined };
  }
  const pieces = Array.from({ length: random.below(4) }, (_, i) => {
    const lengthBytes = 90_000;
    const key = random.bytes(32);
    return { fileOffsetBytes: i * 100_000, lengthBytes, plainSizeBytes: 90_112, key };
  });
  writer.large(digest.toString('hex'), pieces);
  return { kind: 'large', identity: digest, pieces };
}

function bodyOf(writer: MemoWriter): Buffer {
  return Buffer.concat(writer.finish()!);
}

function readAll(body: Buffer): Noted[] {
  const reader = new MemoReader(body);
  const found: Noted[] = [];
  for (let entry = reader.next(); entry !== undefined; entry = reader.next())
    found.push({ entry, content: reader.content });
  return found;
}

test('entries of every kind come back as they were', () => {
  for (const random of seeded(100)) {
    const writer = new MemoWriter();
    const expected: Noted[] = [];
    for (let left = random.below(60); left > 0; left--) {
      const entry = randomEntry(random);
      writer.entry(entry);
      const isFile = entry.type === 'file';
      const content = isFile ? noteContent(writer, entry.sizeBytes, random) : none;
      expected.push({ entry, content });
    }
    assert.deepEqual(readAll(bodyOf(writer)), expected, `seed ${random.seed}`);
  }
});

test('packed files have the places that the packer gives them', () => {
  const random = new Random(1);
  const writer = new MemoWriter();
  const keys: Buffer[] = [];
  const places = new Map<number, MemoPlace>();
  const packer = new FilePacker<number>((bytes, files) => {
    for (const { token, offsetBytes } of files)
      places.set(token, { pack: keys.length, offsetBytes });
    keys.push(random.bytes(32));
    writer.pack({ key: keys.at(-1)!, plainSizeBytes: bytes.length });
    return undefined;
  });
  for (let i = 0; i < 100; i++) {
    const bytes = Buffer.alloc(random.between(513, 65_535), i);
    writer.entry({ ...plainEntry('file', 'f'), sizeBytes: bytes.length });
    writer.small(sha256(bytes), { isPacked: true });
    packer.add(i, bytes, sha256(bytes));
  }
  packer.flush();
  const body = bodyOf(writer);
  const { packs } = new MemoReader(body);
  assert.ok(keys.length > 5);
  assert.deepEqual(
    packs.map(({ key }) => key),
    keys,
  );
  assert.equal(
    packs.reduce((sum, { files }) => sum + files, 0),
    100,
  );
  readAll(body).forEach(({ content }, i) => {
    assert.ok(content.kind === 'small');
    assert.deepEqual(content.place, places.get(i));
  });
});

test('what is not wanted this time is carried over, until an entry is another', () => {
  const random = new Random(2);
  const files = [100, 1000, 2000, 300_000].map((sizeBytes, i) => {
    return { ...plainEntry('file', `f${i}`), sizeBytes };
  });
  const first = new MemoWriter();
  const key = random.bytes(32);
  const pieces = [{ fileOffsetBytes: 0, lengthBytes: 300_000, plainSizeBytes: 303_104, key }];
  const contents: ((writer: MemoWriter) => void)[] = [
    writer => writer.inline(Buffer.alloc(100, 1)),
    writer => writer.small(sha256(Buffer.of(1)), { isPacked: true }),
    writer => writer.small(sha256(Buffer.of(2)), { isPacked: true }),
    writer => writer.large('ab'.repeat(32), pieces),
  ];
  files.forEach((file, i) => {
    first.entry(file);
    contents[i]!(first);
  });
  first.pack({ key, plainSizeBytes: 8192 });
  const body = bodyOf(first);
  const known = readAll(body);

  const none = new MemoWriter(new MemoReader(body));
  for (const file of files) none.entry(file);
  assert.deepEqual(readAll(bodyOf(none)), known);

  const equal = new MemoWriter(new MemoReader(body));
  files.forEach((file, i) => {
    equal.entry(file);
    if (i === 1) equal.small(sha256(Buffer.of(1)), { isPacked: false });
    if (i === 2) equal.small(sha256(Buffer.of(9)), { isPacked: false });
  });
  const found = readAll(bodyOf(equal));
  assert.deepEqual(found[1], known[1], 'it is still where it was');
  assert.deepEqual(found[2]!.content, {
    kind: 'small',
    digest: sha256(Buffer.of(9)),
    place: undefined,
  });

  const other = new MemoWriter(new MemoReader(body));
  for (const file of files) other.entry({ ...file, sizeBytes: file.sizeBytes + 1 });
  assert.ok(readAll(bodyOf(other)).every(({ content }) => content.kind === 'none'));
});

test('a memo beyond the limit is not kept, whatever else is told', () => {
  const sizeBytes = 600;
  const write = (count: number, sizeMaxBytes: number) => {
    const writer = new MemoWriter(undefined, sizeMaxBytes);
    for (let i = 0; i < count; i++) {
      writer.entry({ ...plainEntry('file', `f${i}`), sizeBytes });
      writer.small(sha256(Buffer.of(i)), { isPacked: true });
    }
    writer.pack({ key: Buffer.alloc(32), plainSizeBytes: 4096 });
    return writer.finish();
  };
  const body = Buffer.concat(write(20, 10_000)!);
  assert.ok(write(20, body.length));
  for (const size of [0, 50, body.length - 100, body.length - 1])
    assert.equal(write(20, size), undefined, `${size} of ${body.length}`);
});

/** One of everything. */
function fixedBody(): Buffer {
  const writer = new MemoWriter();
  writer.entry(plainEntry('directory', 'usr/'));
  writer.entry({
    ...plainEntry('file', 'usr/ü'),
    sizeBytes: 3,
    xattrs: new Map([['user.a' as ByteString, '1' as ByteString]]),
  });
  writer.inline(Buffer.from('abc'));
  for (const name of ['packed', 'equal', 'hidden']) {
    writer.entry({ ...plainEntry('file', `usr/${name}`), sizeBytes: 5000, mtimeSeconds: -1 });
    if (name !== 'hidden') writer.small(sha256(Buffer.of(1)), { isPacked: name === 'packed' });
  }
  const runs = [{ offsetBytes: 131_072, lengthBytes: 70_000 }];
  writer.entry({ ...plainEntry('file', 'usr/large'), sizeBytes: 300_000, runs });
  const key = sha256(Buffer.of(2));
  const piece = { fileOffsetBytes: 131_072, lengthBytes: 131_072, plainSizeBytes: 131_072, key };
  writer.large('cd'.repeat(32), [piece]);
  writer.entry({ ...plainEntry('symlink', 'lib'), linkPath: byteStringOfText('usr/lib') });
  writer.entry({ ...plainEntry('block-device', 'dev'), major: 8, minor: 1, uid: 2 ** 32 });
  writer.entry(plainEntry('file', 'lib/.wh.x'));
  writer.pack({ key: sha256(Buffer.of(3)), plainSizeBytes: 8192 });
  return bodyOf(writer);
}

const digest = ociDigest(Buffer.from('layer'));
const layer = { digest, diffId: digest, sizeBytes: 5 };
const goldenFile = '../../../fixtures/golden/layer-memo-v1.bin';

test('golden bytes: version 1', () => {
  const golden = readFileSync(join(import.meta.dirname, goldenFile));
  const key = { name: '', bytes: sha256(Buffer.from('key')) };
  const body = openMemo(golden, key);
  assert.equal(body?.toString('hex'), fixedBody().toString('hex'));
  assert.ok(Buffer.concat(sealMemo([fixedBody()], key)).equals(golden));
  const found = readAll(body!);
  assert.deepEqual(
    found.map(({ entry, content }) => `${entry.type} ${content.kind}`),
    [
      'directory none',
      'file inline',
      'file small',
      'file small',
      'file none',
      'file large',
      'symlink none',
      'block-device none',
      'file none',
    ],
  );
  // A second reader, by docs/format/layer-memo.md: the first entry, and the end.
  assert.equal(body!.toString('hex', 0, 8), '05' + '00' + '04' + '7573722f' + 'a5');
  assert.deepEqual(
    [9, 1],
    [body!.readUInt32LE(body!.length - 12), body!.readUInt32LE(body!.length - 8)],
  );
  assert.equal(body!.readUInt32LE(body!.length - 4), body!.length - 12 - 32 - 2 - 1);
});

test('any other bytes are no memo, or one that can be read', () => {
  const body = fixedBody();
  let [refused, read] = [0, 0];
  for (const random of seeded(3000)) {
    const copy = Buffer.from(body);
    for (let changes = random.between(1, 3); changes > 0; changes--)
      copy[random.below(copy.length)] = random.pick([0, 0xff, random.below(256)]);
    const cut = random.chance(0.2) ? copy.subarray(0, random.below(copy.length)) : copy;
    try {
      readAll(cut);
      read++;
    } catch (error) {
      assert.ok(error instanceof BadMemo, `seed ${random.seed}: ${error}`);
      refused++;
    }
  }
  assert.ok(refused > 500 && read > 500, `${refused} refused, ${read} read`);
});

test('a memo is named and sealed by layer and salt', () => {
  const keys = [
    memoKey(salt, layer),
    memoKey(salt, { ...layer, digest: ociDigest(Buffer.of(1)) }),
    memoKey(salt, { ...layer, diffId: ociDigest(Buffer.of(1)) }),
  ];
  assert.equal(new Set(keys.map(({ name }) => name)).size, 3);
  assert.match(keys[0]!.name, /^[0-9a-f]{64}$/);
  const sealed = Buffer.concat(sealMemo([Buffer.from('bo'), Buffer.from('dy')], keys[0]!));
  assert.equal(openMemo(sealed, keys[0]!)?.toString(), 'body');
  assert.equal(openMemo(sealed, keys[1]!), undefined);
  for (let at = 0; at < sealed.length; at++) {
    const spoiled = Buffer.from(sealed);
    spoiled[at]! ^= 0x10;
    assert.equal(openMemo(spoiled, keys[0]!), undefined, `byte ${at}`);
    assert.equal(openMemo(sealed.subarray(0, at), keys[0]!), undefined, `${at} bytes`);
  }
});
