/**
 * Writes tar archives byte by byte, odd and broken ones included. Names and PAX values are strings
 * of one character a byte (latin1). `tarOf` writes a layer from a list of what it should hold.
 */

export interface HeaderFields {
  name?: string;
  /** Numbers are written in octal; a Buffer is put there as it is. */
  mode?: number | Buffer;
  uid?: number | Buffer;
  gid?: number | Buffer;
  size?: number | Buffer;
  mtime?: number | Buffer;
  /** The type byte as a character; '0' by default. */
  type?: string;
  linkName?: string;
  format?: 'v7' | 'ustar' | 'star' | 'gnu';
  prefix?: string;
  major?: number | Buffer;
  minor?: number | Buffer;
  /** Last touches before the checksum. */
  patch?: (block: Buffer) => void;
  checksum?: 'unsigned' | 'signed' | 'wrong';
}

const magics = { v7: '', ustar: 'ustar\x0000', star: 'ustar\x0000', gnu: 'ustar  \x00' };

export function tarHeader(fields: HeaderFields): Buffer {
  const block = Buffer.alloc(512);
  const format = fields.format ?? 'ustar';
  const number = (value: number | Buffer | undefined, at: number, length: number) => {
    if (Buffer.isBuffer(value)) value.copy(block, at, 0, length);
    else block.write(octal(value ?? 0, length), at, 'latin1');
  };
  block.write(fields.name ?? '', 0, 100, 'latin1');
  number(fields.mode ?? 0o644, 100, 8);
  number(fields.uid, 108, 8);
  number(fields.gid, 116, 8);
  number(fields.size, 124, 12);
  number(fields.mtime, 136, 12);
  block.write(fields.type ?? '0', 156, 'latin1');
  block.write(fields.linkName ?? '', 157, 100, 'latin1');
  block.write(magics[format], 257, 'latin1');
  if (format !== 'v7') {
    number(fields.major, 329, 8);
    number(fields.minor, 337, 8);
    if (format !== 'gnu') block.write(fields.prefix ?? '', 345, 'latin1');
    if (format === 'star') block.write('tar\0', 508, 'latin1');
  }
  fields.patch?.(block);
  writeChecksum(block, fields.checksum ?? 'unsigned');
  return block;
}

export function writeChecksum(block: Buffer, kind: 'unsigned' | 'signed' | 'wrong'): void {
  block.write('        ', 148, 'latin1');
  let sum = 0;
  for (const byte of block) sum += kind === 'signed' && byte > 127 ? byte - 256 : byte;
  if (kind === 'wrong') sum++;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

export function octal(value: number, length: number): string {
  return `${value.toString(8).padStart(length - 1, '0')}\0`;
}

/** GNU's two's complement. */
export function base256(value: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let rest = BigInt.asUintN(length * 8, value);
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  bytes[0]! |= 0x80;
  return bytes;
}

export function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (length !== rest.length + String(length).length)
    length = rest.length + String(length).length;
  return Buffer.from(`${length}${rest}`, 'latin1');
}

export function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 511)]);
}

/** Collects the parts of one archive; every method but `end` gives the builder back. */
export class TarBuilder {
  readonly #parts: Buffer[] = [];

  raw(bytes: Buffer): this {
    this.#parts.push(bytes);
    return this;
  }

  /** A header and its data; the size is that of the data unless it is given. */
  entry(fields: HeaderFields, data: Buffer | string = Buffer.alloc(0)): this {
    const bytes = Buffer.from(data as string, 'latin1');
    return this.raw(tarHeader({ size: bytes.length, ...fields })).raw(padded(bytes));
  }

  /** A PAX header: 'x' for the next entry, 'g' for all. */
  pax(records: readonly (readonly [key: string, value: string])[], type = 'x'): this {
    const payload = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
    return this.entry({ name: 'PaxHeaders/x', type }, payload);
  }

  longName(name: string, type: 'L' | 'K' = 'L'): this {
    return this.entry({ name: '././@LongLink', type, format: 'gnu' }, `${name}\0`);
  }

  end(zeroBlocks = 2): Buffer {
    return Buffer.concat([...this.#parts, Buffer.alloc(zeroBlocks * 512)]);
  }
}

export interface LayerEntry {
  path: string;
  type?: 'file' | 'directory' | 'symlink' | 'hard-link' | 'char' | 'block' | 'fifo';
  content?: Buffer | string;
  /** Of a symlink or a hard link. */
  target?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  mtimeSeconds?: number;
  mtimeNanoseconds?: number;
  xattrs?: Readonly<Record<string, Buffer | string>>;
  major?: number;
  minor?: number;
}

const typeBytes = {
  file: '0',
  'hard-link': '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
} as const;

/** A layer as today's tools write it: ustar headers, PAX where they do not suffice. */
export function tarOf(entries: readonly LayerEntry[]): Buffer {
  const tar = new TarBuilder();
  for (const entry of entries) addEntry(tar, entry);
  return tar.end();
}

function addEntry(tar: TarBuilder, entry: LayerEntry): void {
  const records: [string, string][] = [];
  const type = entry.type ?? 'file';
  const target = entry.target ?? '';
  const mtime = entry.mtimeSeconds ?? 1_000_000_000;
  const nanoseconds = entry.mtimeNanoseconds ?? 0;
  if (entry.path.length > 100) records.push(['path', entry.path]);
  if (target.length > 100) records.push(['linkpath', target]);
  if (nanoseconds !== 0 || mtime < 0) records.push(['mtime', paxTime(mtime, nanoseconds)]);
  for (const id of ['uid', 'gid'] as const)
    if ((entry[id] ?? 0) >= 0o10000000) records.push([id, String(entry[id])]);
  for (const [name, value] of Object.entries(entry.xattrs ?? {}))
    records.push([`SCHILY.xattr.${name}`, Buffer.from(value as string).toString('latin1')]);
  if (records.length > 0) tar.pax(records);
  const fields: HeaderFields = {
    name: entry.path.slice(0, 100),
    linkName: target.slice(0, 100),
    type: typeBytes[type],
    mode: entry.mode ?? (type === 'directory' ? 0o755 : 0o644),
    uid: (entry.uid ?? 0) % 0o10000000,
    gid: (entry.gid ?? 0) % 0o10000000,
    mtime: Math.max(0, mtime),
    major: entry.major ?? 0,
    minor: entry.minor ?? 0,
  };
  tar.entry(fields, typeof entry.content === 'string' ? entry.content : (entry.content ?? ''));
}

/** Seconds and nanoseconds since then, as PAX writes them: -1 and 5e8 is -0.5. */
export function paxTime(seconds: number, nanoseconds: number): string {
  const total = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  const size = total < 0n ? -total : total;
  const fraction = String(size % 1_000_000_000n).padStart(9, '0');
  return `${total < 0n ? '-' : ''}${size / 1_000_000_000n}.${fraction}`;
}
