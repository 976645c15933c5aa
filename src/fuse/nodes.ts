/**
 * The files that one FUSE connection serves: `<id>/disk` below its root, one per image.
 *
 * A node id is made of the file's serial, so that a server that takes the connection over gives the
 * same ones. The kernel keeps pages by node id and never asks whether they changed: a serial must
 * never name two files on one connection, not even one after the other.
 */

import { assert } from '../base/assert.ts';

/**
 * Bytes that are served as a file. Contract:
 * - read: `lengthBytes` (1 to readSizeMaxBytes) from `offsetBytes`, never beyond the end, as slices
 *   in order whose lengths sum up to exactly that. At once if the bytes are in memory, else as a
 *   promise. Slices are lent until the next turn of the event loop and not written to. Reads run at
 *   the same time and are answered in any order.
 * - A fault (thrown or rejected) becomes EIO for these bytes alone; the next read asks again.
 */
export interface ServedFile {
  readonly sizeBytes: number;
  read(offsetBytes: number, lengthBytes: number): Uint8Array[] | Promise<Uint8Array[]>;
}

export interface FileStats {
  id: string;
  /** Answered with bytes, and how many. */
  reads: number;
  bytes: number;
  /** Answered with an error. */
  failures: number;
  inFlight: number;
  /** Reads that were not answered at once, and for how long they waited in sum. */
  waits: number;
  waitMs: number;
}

export interface FileNode {
  readonly id: string;
  readonly serial: number;
  readonly file: ServedFile;
  readonly stats: FileStats;
  lastLoggedMs: number;
}

export const rootNodeId = 1;
export const fileName = 'disk';

/** Node ids are twice a serial, and safe integers. */
const serialMax = 2 ** 51;
const idPattern = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$/;

export function directoryNodeId(node: FileNode): number {
  return node.serial * 2;
}

export function fileNodeId(node: FileNode): number {
  return node.serial * 2 + 1;
}

export class NodeTable {
  readonly #bySerial = new Map<number, FileNode>();
  readonly #byId = new Map<string, FileNode>();

  add(id: string, serial: number, file: ServedFile): void {
    assert(idPattern.test(id), 'the id of a served file is a plain file name');
    assert(!this.#byId.has(id), 'the id of a served file is not in use');
    assert(Number.isInteger(serial) && serial >= 1 && serial <= serialMax, 'a serial is in range');
    assert(!this.#bySerial.has(serial), 'a serial is not in use');
    assert(Number.isSafeInteger(file.sizeBytes) && file.sizeBytes >= 0, 'a file has a size');
    const stats = { id, reads: 0, bytes: 0, failures: 0, inFlight: 0, waits: 0, waitMs: 0 };
    const node: FileNode = { id, serial, file, stats, lastLoggedMs: Number.NEGATIVE_INFINITY };
    this.#bySerial.set(serial, node);
    this.#byId.set(id, node);
  }

  /** False if there is no such file. */
  remove(id: string): boolean {
    const node = this.#byId.get(id);
    if (node === undefined) return false;
    this.#byId.delete(id);
    this.#bySerial.delete(node.serial);
    return true;
  }

  byId(id: string): FileNode | undefined {
    return this.#byId.get(id);
  }

  directory(nodeId: number): FileNode | undefined {
    return nodeId % 2 === 0 ? this.#bySerial.get(nodeId / 2) : undefined;
  }

  file(nodeId: number): FileNode | undefined {
    return nodeId % 2 === 1 ? this.#bySerial.get((nodeId - 1) / 2) : undefined;
  }

  /** In the order of their serials. */
  all(): FileNode[] {
    return [...this.#bySerial.values()].sort((a, b) => a.serial - b.serial);
  }
}
