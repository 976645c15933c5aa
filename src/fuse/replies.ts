/** The bodies of replies, encoded. Integers are unsigned and below 2^53. */

import {
  attributes,
  attributesOut,
  congestionThreshold,
  directoryEntry,
  directoryEntryType,
  entryOut,
  fileMode,
  initFlag,
  initFlag2,
  initOut,
  maxBackground,
  maxPages,
  maxWriteBytes,
  openOut,
  pageSizeBytes,
  protocolMajor,
  protocolMinor,
  statfsOut,
  validitySeconds,
} from './format.ts';

export interface NodeAttributes {
  nodeId: number;
  kind: 'directory' | 'file';
  sizeBytes: number;
}

export function putU64(bytes: Buffer, offset: number, value: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, offset);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}

export function encodeInit(options: { maxReadAhead: number; resend: boolean }): Buffer {
  const { maxReadAhead, resend } = options;
  const body = Buffer.alloc(initOut.sizeBytes);
  body.writeUInt32LE(protocolMajor, initOut.major);
  body.writeUInt32LE(protocolMinor, initOut.minor);
  body.writeUInt32LE(maxReadAhead, initOut.maxReadAhead);
  const flags =
    initFlag.asyncRead | initFlag.asyncDirectIo | initFlag.parallelDirOps | initFlag.maxPages;
  body.writeUInt32LE(resend ? flags | initFlag.initExt : flags, initOut.flags);
  body.writeUInt16LE(maxBackground, initOut.maxBackground);
  body.writeUInt16LE(congestionThreshold, initOut.congestionThreshold);
  body.writeUInt32LE(maxWriteBytes, initOut.maxWrite);
  body.writeUInt32LE(1, initOut.timeGranularity);
  body.writeUInt16LE(maxPages, initOut.maxPages);
  body.writeUInt32LE(resend ? initFlag2.hasResend : 0, initOut.flags2);
  return body;
}

export function encodeEntry(node: NodeAttributes): Buffer {
  const body = Buffer.alloc(entryOut.sizeBytes);
  putU64(body, entryOut.nodeId, node.nodeId);
  putU64(body, entryOut.entryValidity, validitySeconds);
  putU64(body, entryOut.attributesValidity, validitySeconds);
  putAttributes(body, entryOut.attributes, node);
  return body;
}

export function encodeAttributes(node: NodeAttributes): Buffer {
  const body = Buffer.alloc(attributesOut.sizeBytes);
  putU64(body, attributesOut.validity, validitySeconds);
  putAttributes(body, attributesOut.attributes, node);
  return body;
}

/** For root alone: the disk has every file of the image in it, whatever its permissions. */
function putAttributes(body: Buffer, offset: number, node: NodeAttributes): void {
  const isDirectory = node.kind === 'directory';
  putU64(body, offset + attributes.inode, node.nodeId);
  putU64(body, offset + attributes.size, node.sizeBytes);
  putU64(body, offset + attributes.blocks, Math.ceil(node.sizeBytes / 512));
  const mode = isDirectory ? fileMode.directory | 0o500 : fileMode.regular | 0o400;
  body.writeUInt32LE(mode, offset + attributes.mode);
  body.writeUInt32LE(isDirectory ? 2 : 1, offset + attributes.links);
  body.writeUInt32LE(pageSizeBytes, offset + attributes.blockSize);
}

export function encodeOpen(flags: number): Buffer {
  const body = Buffer.alloc(openOut.sizeBytes);
  body.writeUInt32LE(flags, openOut.flags);
  return body;
}

export function encodeStatfs(): Buffer {
  const body = Buffer.alloc(statfsOut.sizeBytes);
  body.writeUInt32LE(pageSizeBytes, statfsOut.blockSize);
  body.writeUInt32LE(255, statfsOut.nameLength);
  return body;
}

export interface ListedEntry {
  name: string;
  nodeId: number;
  kind: 'directory' | 'file';
  /** Where a listing goes on after this entry. */
  nextOffset: number;
}

/** As many of the entries, in order, as fit whole. */
export function encodeListing(entries: Iterable<ListedEntry>, sizeMaxBytes: number): Buffer {
  const encoded: Buffer[] = [];
  let sizeBytes = 0;
  for (const entry of entries) {
    const record = encodeListedEntry(entry);
    sizeBytes += record.length;
    if (sizeBytes > sizeMaxBytes) break;
    encoded.push(record);
  }
  return Buffer.concat(encoded);
}

function encodeListedEntry({ name, nodeId, kind, nextOffset }: ListedEntry): Buffer {
  const length = directoryEntry.name + Buffer.byteLength(name);
  const { alignment } = directoryEntry;
  const record = Buffer.alloc(Math.ceil(length / alignment) * alignment);
  putU64(record, directoryEntry.inode, nodeId);
  putU64(record, directoryEntry.nextOffset, nextOffset);
  record.writeUInt32LE(length - directoryEntry.name, directoryEntry.nameLength);
  record.writeUInt32LE(directoryEntryType[kind], directoryEntry.type);
  record.write(name, directoryEntry.name);
  return record;
}
