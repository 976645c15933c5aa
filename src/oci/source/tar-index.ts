/**
 * Where the members of a tar file lie, found by one pass over its headers: their data is skipped,
 * and read later, in any order, from the file itself.
 */

import type { FileHandle } from 'node:fs/promises';
import { posix } from 'node:path';
import { type ByteString, bytesOf } from '../../base/byte-string.ts';
import { ImgstoreError } from '../../base/errors.ts';
import {
  archiveMembersMax,
  KiB,
  pathLengthMaxBytes,
  tarSpecialHeaderMaxBytes,
} from '../../base/limits.ts';
import { EntryFault } from '../layer/fault.ts';
import { blockBytes, tarType } from '../layer/tar-format.ts';
import { cString, isZeroBlock, readHeader, type TarHeader } from '../layer/tar-header.ts';
import { parsePax } from '../layer/tar-pax.ts';
import { type FileRange, readFully } from './file-range.ts';

/** Links of a longer chain are taken for a loop. */
const linkHopsMax = 8;
const windowBytes = 16 * KiB;

export class TarIndex {
  /** By path without a leading slash, `.` or `..`; of several of one name, the last. */
  readonly #members: Map<string, Member>;

  constructor(members: Map<string, Member>) {
    this.#members = members;
  }

  /** The data of a member, through links; undefined if there is no such file. */
  find(path: string): FileRange | undefined {
    let member = this.#members.get(cleanPath(path));
    for (let hops = 0; member !== undefined && 'target' in member; hops++) {
      if (hops === linkHopsMax) return undefined;
      member = this.#members.get(member.target);
    }
    return member;
  }
}

type Member = FileRange | { target: string };

/** What extended headers say of the member that follows them. */
interface Extended {
  path?: ByteString | undefined;
  linkPath?: ByteString | undefined;
  sizeBytes?: number | undefined;
}

/** `label` names the archive in messages. CORRUPT if it is no tar or ends in the middle. */
export async function indexTar(file: FileHandle, options: IndexOptions): Promise<TarIndex> {
  const { sizeBytes, label, signal } = options;
  const members = new Map<string, Member>();
  const blocks = new BlockWindow(file, options);
  let extended: Extended = {};
  let at = 0;
  try {
    while (at < sizeBytes) {
      signal?.throwIfAborted();
      const { buffer, start } = await blocks.blockAt(at);
      if (isZeroBlock(buffer, start)) break;
      const header = at === 0 ? readFirstHeader(buffer) : readHeader(buffer, start);
      const data = { offsetBytes: at + blockBytes, sizeBytes: storedSize(header, extended) };
      // A negative size would walk back, for ever.
      if (data.sizeBytes < 0 || data.offsetBytes + data.sizeBytes > sizeBytes) {
        throw new EntryFault('CORRUPT', 'a member reaches beyond its end; it was cut short');
      }
      if (isExtension(header.type)) {
        extended = { ...extended, ...(await readExtension(file, header.type, data, label)) };
      } else {
        addMember(members, header, extended, data);
        extended = {};
      }
      at = data.offsetBytes + Math.ceil(data.sizeBytes / blockBytes) * blockBytes;
    }
  } catch (error) {
    throw archiveFault(label, at, error);
  }
  return new TarIndex(members);
}

export interface IndexOptions {
  /** Of the file. */
  sizeBytes: number;
  label: string;
  signal?: AbortSignal | undefined;
}

/** Reads several blocks at once: headers of small members lie close together. */
class BlockWindow {
  readonly #file: FileHandle;
  readonly #options: IndexOptions;
  #buffer: Buffer = Buffer.alloc(0);
  #startBytes = 0;

  constructor(file: FileHandle, options: IndexOptions) {
    this.#file = file;
    this.#options = options;
  }

  async blockAt(at: number): Promise<{ buffer: Buffer; start: number }> {
    if (at < this.#startBytes || at + blockBytes > this.#startBytes + this.#buffer.length) {
      const { sizeBytes, label } = this.#options;
      if (sizeBytes - at < blockBytes) throw new EntryFault('CORRUPT', 'it ends in a header');
      this.#buffer = await readFully(this.#file, at, Math.min(windowBytes, sizeBytes - at), label);
      this.#startBytes = at;
    }
    return { buffer: this.#buffer, start: at - this.#startBytes };
  }
}

/** If the very first is no header, nothing is. */
function readFirstHeader(block: Buffer): TarHeader {
  try {
    return readHeader(block, 0);
  } catch {
    throw new EntryFault('CORRUPT', 'it is no tar archive');
  }
}

function archiveFault(label: string, at: number, error: unknown): unknown {
  if (!(error instanceof EntryFault)) return error;
  return new ImgstoreError(error.code, `Cannot read ${label}: ${error.message} (byte ${at})`, {
    hint: 'Name a whole file that docker save wrote.',
    cause: error,
  });
}

function addMember(
  members: Map<string, Member>,
  header: TarHeader,
  extended: Extended,
  data: FileRange,
): void {
  const path = text(extended.path ?? header.name);
  if (members.size >= archiveMembersMax) {
    throw new EntryFault('LIMIT', `it has more than ${archiveMembersMax} members`);
  }
  switch (header.type) {
    case tarType.oldFile:
    case tarType.file:
    case tarType.contiguousFile:
      members.set(cleanPath(path), data);
      return;
    case tarType.hardLink:
      members.set(cleanPath(path), {
        target: cleanPath(text(extended.linkPath ?? header.linkName)),
      });
      return;
    case tarType.symlink: {
      const target = text(extended.linkPath ?? header.linkName);
      const from = target.startsWith('/') ? '' : posix.dirname(cleanPath(path));
      members.set(cleanPath(path), { target: cleanPath(`${from}/${target}`) });
      return;
    }
    case tarType.gnuSparse:
      throw new EntryFault('UNSUPPORTED', 'it holds a sparse file');
  }
}

/** Links, directories and devices have no data, whatever their size field says: as in Go. */
function storedSize(header: TarHeader, extended: Extended): number {
  if (isExtension(header.type)) return header.sizeBytes;
  const isBare = header.type >= tarType.hardLink && header.type <= tarType.fifo;
  return isBare ? 0 : (extended.sizeBytes ?? header.sizeBytes);
}

function isExtension(type: number): boolean {
  const { paxLocal, paxGlobal, gnuLongName, gnuLongLink } = tarType;
  return type === paxLocal || type === paxGlobal || type === gnuLongName || type === gnuLongLink;
}

async function readExtension(
  file: FileHandle,
  type: number,
  data: FileRange,
  label: string,
): Promise<Extended> {
  if (type === tarType.paxGlobal) return {};
  if (data.sizeBytes > tarSpecialHeaderMaxBytes) {
    throw new EntryFault('LIMIT', `an extended header is over ${tarSpecialHeaderMaxBytes} bytes`);
  }
  const payload = await readFully(file, data.offsetBytes, data.sizeBytes, label);
  if (type === tarType.paxLocal) {
    const { path, linkPath, sizeBytes } = parsePax(payload);
    return { path, linkPath, sizeBytes };
  }
  const name = cString(payload, 0, payload.length);
  return type === tarType.gnuLongName ? { path: name } : { linkPath: name };
}

function text(name: ByteString): string {
  if (name.length > pathLengthMaxBytes) {
    throw new EntryFault('LIMIT', `a name is over ${pathLengthMaxBytes} bytes`);
  }
  return bytesOf(name).toString('utf8');
}

function cleanPath(path: string): string {
  return posix.normalize(`/${path}`).slice(1);
}
