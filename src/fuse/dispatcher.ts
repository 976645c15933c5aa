/**
 * Answers the kernel's requests: a read-only file system of one directory per image with one file.
 * It knows nothing of descriptors, so tests drive it with whatever bytes they like.
 *
 * Invariant: every request that wants a reply gets exactly one, however malformed it is; a request
 * without one would leave its process waiting for ever.
 */

import { describeError, ImgstoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  accessModeMask,
  errno,
  initFlag,
  initFlag2,
  initIn,
  opcode,
  openFlag,
  openIn,
  protocolMajor,
  protocolMinor,
  protocolMinorFloor,
  readIn,
  readSizeMaxBytes,
  requestHeader,
} from './format.ts';
import {
  directoryNodeId,
  type FileNode,
  fileName,
  fileNodeId,
  type NodeTable,
  rootNodeId,
} from './nodes.ts';
import {
  encodeAttributes,
  encodeEntry,
  encodeInit,
  encodeListing,
  encodeOpen,
  encodeStatfs,
  type ListedEntry,
  type NodeAttributes,
} from './replies.ts';

/** What kernel and server agreed on; a server that takes over needs it, as INIT comes once. */
export interface Negotiated {
  protocolMinor: number;
  /** The kernel sends unanswered requests again when asked (Linux 6.9). */
  resend: boolean;
}

/** The head of a request. `unique` goes back as it came: 64 bits as two words. */
export interface RequestHead {
  opcode: number;
  uniqueLow: number;
  uniqueHigh: number;
  nodeId: number;
}

export interface DispatcherOptions {
  nodes: NodeTable;
  /** `error` is 0 or an errno; the slices are used before it returns. */
  reply(head: RequestHead, error: number, body: readonly Uint8Array[]): void;
  onInit(result: Negotiated | ImgstoreError): void;
  log: Log;
  nowMs?: () => number;
}

/** One line per file in this time tells of failing reads; the counters tell the rest. */
const failureLogIntervalMs = 10_000;
const nothing: readonly Uint8Array[] = [];

export class Dispatcher {
  readonly #nodes: NodeTable;
  readonly #reply: DispatcherOptions['reply'];
  readonly #onInit: DispatcherOptions['onInit'];
  readonly #log: Log;
  readonly #nowMs: () => number;

  constructor({ nodes, reply, onInit, log, nowMs }: DispatcherOptions) {
    this.#nodes = nodes;
    this.#reply = reply;
    this.#onInit = onInit;
    this.#log = log;
    this.#nowMs = nowMs ?? (() => performance.now());
  }

  /** One request in the first `lengthBytes` of a buffer, which is the caller's again afterwards. */
  handle(request: Buffer, lengthBytes: number): void {
    if (lengthBytes < requestHeader.sizeBytes) {
      this.#log('error', `Cannot answer a request of the kernel: it has ${lengthBytes} bytes`);
      return;
    }
    const head: RequestHead = {
      opcode: request.readUInt32LE(requestHeader.opcode),
      uniqueLow: request.readUInt32LE(requestHeader.unique),
      uniqueHigh: request.readUInt32LE(requestHeader.unique + 4),
      nodeId: getU64(request, requestHeader.nodeId),
    };
    const body = request.subarray(requestHeader.sizeBytes, lengthBytes);
    if (request.readUInt32LE(requestHeader.length) !== lengthBytes) this.#malformed(head);
    else if (head.opcode === opcode.read) this.#read(head, body);
    else this.#other(head, body);
  }

  #other(head: RequestHead, body: Buffer): void {
    switch (head.opcode) {
      case opcode.forget:
      case opcode.batchForget:
      case opcode.interrupt: // Programs do not expect EINTR of a disk: the read goes on.
        return;
      case opcode.init:
        this.#init(head, body);
        return;
      case opcode.lookup:
        this.#lookup(head, body);
        return;
      case opcode.getattr:
        this.#getattr(head);
        return;
      case opcode.open:
        this.#open(head, body);
        return;
      case opcode.opendir:
        this.#opendir(head);
        return;
      case opcode.readdir:
        this.#readdir(head, body);
        return;
      case opcode.statfs:
        this.#succeed(head, encodeStatfs());
        return;
      case opcode.release:
      case opcode.releasedir:
        this.#reply(head, 0, nothing);
        return;
      default: // The kernel remembers it, and does without.
        this.#fail(head, errno.ENOSYS);
    }
  }

  #read(head: RequestHead, body: Buffer): void {
    const sizeBytes = body.length < readIn.sizeBytes ? -1 : body.readUInt32LE(readIn.size);
    if (sizeBytes < 0 || sizeBytes > readSizeMaxBytes) {
      this.#malformed(head);
      return;
    }
    const node = this.#nodes.file(head.nodeId);
    if (node === undefined) {
      this.#fail(head, errno.ESTALE);
      return;
    }
    const offsetBytes = getU64(body, readIn.offset);
    const lengthBytes = Math.min(sizeBytes, node.file.sizeBytes - offsetBytes);
    if (lengthBytes > 0) this.#readFrom(node, head, offsetBytes, lengthBytes);
    else this.#reply(head, 0, nothing);
  }

  #readFrom(node: FileNode, head: RequestHead, offsetBytes: number, lengthBytes: number): void {
    let result: Uint8Array[] | Promise<Uint8Array[]>;
    try {
      result = node.file.read(offsetBytes, lengthBytes);
    } catch (error) {
      this.#readFailed(head, node, error);
      return;
    }
    if (Array.isArray(result)) this.#readDone(head, node, result, lengthBytes);
    else this.#readLater(head, node, result, lengthBytes);
  }

  #readLater(
    head: RequestHead,
    node: FileNode,
    result: Promise<Uint8Array[]>,
    lengthBytes: number,
  ): void {
    const { stats } = node;
    const startedMs = this.#nowMs();
    stats.inFlight++;
    const waited = (): void => {
      stats.inFlight--;
      stats.waits++;
      stats.waitMs += this.#nowMs() - startedMs;
    };
    result.then(
      slices => {
        waited();
        this.#readDone(head, node, slices, lengthBytes);
      },
      error => {
        waited();
        this.#readFailed(head, node, error);
      },
    );
  }

  #readDone(head: RequestHead, node: FileNode, slices: Uint8Array[], lengthBytes: number): void {
    let sumBytes = 0;
    for (const slice of slices) sumBytes += slice.length;
    if (sumBytes !== lengthBytes) {
      // A short answer would tell the kernel that the file ends here. Not an assertion: the server
      // that comes after a crash would be asked the very same.
      const message = `${lengthBytes} bytes were asked for, ${sumBytes} came`;
      this.#readFailed(head, node, new Error(message));
      return;
    }
    node.stats.reads++;
    node.stats.bytes += lengthBytes;
    this.#reply(head, 0, slices);
  }

  #readFailed(head: RequestHead, node: FileNode, error: unknown): void {
    node.stats.failures++;
    const nowMs = this.#nowMs();
    if (nowMs - node.lastLoggedMs >= failureLogIntervalMs) {
      node.lastLoggedMs = nowMs;
      const sum = `${node.stats.failures} failed reads so far`;
      this.#log('error', `Cannot read from disk ${node.id}: ${describeError(error)} (${sum})`);
    }
    this.#fail(head, errno.EIO);
  }

  #init(head: RequestHead, body: Buffer): void {
    if (body.length < initIn.sizeMinBytes) {
      this.#malformed(head);
      return;
    }
    const major = body.readUInt32LE(initIn.major);
    const minor = body.readUInt32LE(initIn.minor);
    if (major !== protocolMajor || minor < protocolMinorFloor) {
      this.#fail(head, errno.EPROTO);
      const hint = 'Use Linux 4.20 or newer.';
      const message = `Cannot serve files to the kernel: it speaks FUSE ${major}.${minor}`;
      this.#onInit(new ImgstoreError('UNSUPPORTED', message, { hint }));
      return;
    }
    const isExtended = (body.readUInt32LE(initIn.flags) & initFlag.initExt) !== 0;
    const hasFlags2 = isExtended && body.length >= initIn.sizeExtMinBytes;
    const flags2 = hasFlags2 ? body.readUInt32LE(initIn.flags2) : 0;
    const resend = (flags2 & initFlag2.hasResend) !== 0;
    const maxReadAhead = body.readUInt32LE(initIn.maxReadAhead);
    this.#succeed(head, encodeInit({ maxReadAhead, resend }));
    this.#onInit({ protocolMinor: Math.min(minor, protocolMinor), resend });
  }

  #lookup(head: RequestHead, body: Buffer): void {
    const end = body.indexOf(0);
    if (end < 0) {
      this.#malformed(head);
      return;
    }
    const found = this.#child(head.nodeId, body.toString('latin1', 0, end));
    if (found !== undefined) this.#succeed(head, encodeEntry(found));
    // Not as an entry of node 0: the kernel would remember that it is absent.
    else this.#fail(head, errno.ENOENT);
  }

  #child(parentId: number, name: string): NodeAttributes | undefined {
    if (parentId === rootNodeId) {
      const node = this.#nodes.byId(name);
      return node === undefined ? undefined : directoryAttributes(node);
    }
    const node = this.#nodes.directory(parentId);
    return node === undefined || name !== fileName ? undefined : fileAttributes(node);
  }

  #getattr(head: RequestHead): void {
    const found = this.#attributesOf(head.nodeId);
    if (found === undefined) this.#fail(head, errno.ESTALE);
    else this.#succeed(head, encodeAttributes(found));
  }

  #open(head: RequestHead, body: Buffer): void {
    if (body.length < openIn.sizeBytes) this.#malformed(head);
    else if ((body.readUInt32LE(openIn.flags) & accessModeMask) !== 0) {
      this.#fail(head, errno.EROFS);
    } else if (this.#nodes.file(head.nodeId) === undefined) this.#fail(head, errno.ESTALE);
    // Without keepCache, every further open drops the pages that are there.
    else this.#succeed(head, encodeOpen(openFlag.keepCache | openFlag.noFlush));
  }

  #opendir(head: RequestHead): void {
    if (this.#attributesOf(head.nodeId)?.kind !== 'directory') this.#fail(head, errno.ESTALE);
    else this.#succeed(head, encodeOpen(0));
  }

  #readdir(head: RequestHead, body: Buffer): void {
    const entries = this.#listing(head.nodeId);
    if (body.length < readIn.sizeBytes) this.#malformed(head);
    else if (entries === undefined) this.#fail(head, errno.ESTALE);
    else {
      const offset = getU64(body, readIn.offset);
      const sizeBytes = Math.min(body.readUInt32LE(readIn.size), readSizeMaxBytes);
      const rest = entries.filter(entry => entry.nextOffset > offset);
      this.#succeed(head, encodeListing(rest, sizeBytes));
    }
  }

  /** Offsets are 1 and 2 for the dots, then above the node's serial: they survive removals. */
  #listing(nodeId: number): ListedEntry[] | undefined {
    const dots: ListedEntry[] = [
      { name: '.', nodeId, kind: 'directory', nextOffset: 1 },
      { name: '..', nodeId: rootNodeId, kind: 'directory', nextOffset: 2 },
    ];
    if (nodeId === rootNodeId) {
      const directories = this.#nodes.all().map(node => ({
        name: node.id,
        nodeId: directoryNodeId(node),
        kind: 'directory' as const,
        nextOffset: node.serial + 2,
      }));
      return [...dots, ...directories];
    }
    const node = this.#nodes.directory(nodeId);
    if (node === undefined) return undefined;
    return [...dots, { name: fileName, nodeId: fileNodeId(node), kind: 'file', nextOffset: 3 }];
  }

  #attributesOf(nodeId: number): NodeAttributes | undefined {
    if (nodeId === rootNodeId) return { nodeId, kind: 'directory', sizeBytes: 0 };
    const directory = this.#nodes.directory(nodeId);
    if (directory !== undefined) return directoryAttributes(directory);
    const file = this.#nodes.file(nodeId);
    return file === undefined ? undefined : fileAttributes(file);
  }

  #malformed(head: RequestHead): void {
    const { forget, batchForget, interrupt } = opcode;
    const wantsNoReply = [forget, batchForget, interrupt].some(code => code === head.opcode);
    if (wantsNoReply) return;
    this.#log('error', `Cannot answer a request of the kernel (${head.opcode}): it is malformed`);
    this.#fail(head, errno.EINVAL);
  }

  #fail(head: RequestHead, error: number): void {
    this.#reply(head, error, nothing);
  }

  #succeed(head: RequestHead, body: Buffer): void {
    this.#reply(head, 0, [body]);
  }
}

function directoryAttributes(node: FileNode): NodeAttributes {
  return { nodeId: directoryNodeId(node), kind: 'directory', sizeBytes: 0 };
}

function fileAttributes(node: FileNode): NodeAttributes {
  return { nodeId: fileNodeId(node), kind: 'file', sizeBytes: node.file.sizeBytes };
}

/** Above 2^53 it is inexact, and no node id or offset that this server knows. */
function getU64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset) + bytes.readUInt32LE(offset + 4) * 2 ** 32;
}
