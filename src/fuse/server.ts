/**
 * One FUSE connection of this process that shows the disks of all images as `<id>/disk`.
 *
 * The mount lives as long as a descriptor of the connection is open anywhere. When this process
 * dies and another one has kept the descriptor, a new server takes the connection over (`adopt`):
 * the kernel sends again what was not answered, and readers see no more than a pause.
 */

import { constants, openSync } from 'node:fs';
import { assert } from '../base/assert.ts';
import { describeError, errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Channel } from './channel.ts';
import { Dispatcher, type Negotiated } from './dispatcher.ts';
import { invalidateEntry, notifyCode, readSizeMaxBytes } from './format.ts';
import { mountsBelow, realPath } from './mount-table.ts';
import { type FileStats, fileName, NodeTable, rootNodeId, type ServedFile } from './nodes.ts';
import { setReadAhead } from './read-ahead.ts';
import { putU64 } from './replies.ts';
import { mount, mountFlag, unmountNow } from './system-calls.ts';

/**
 * Of whoever reads `disk` in order: four reads of the largest size under way keep two cores busy with
 * chunks from the worker's cache (365 MB/s; one: 330). EROFS on it asks for single blocks and has a
 * read-ahead of its own.
 */
const readAheadBytes = 4 * readSizeMaxBytes;

/** What a successor must know besides the descriptor and the files; plain data. */
export interface ConnectionState {
  mountPoint: string;
  negotiated: Negotiated;
}

export interface AddedFile {
  id: string;
  /** As it was added. */
  serial: number;
  file: ServedFile;
}

export class FuseServer {
  readonly mountPoint: string;
  /** For whoever keeps the connection alive; it stays this server's. */
  readonly fd: number;
  /** Resolves when the connection has ended: `close`, or somebody unmounted or aborted it. */
  readonly ended: Promise<void>;
  readonly #log: Log;
  readonly #nodes = new NodeTable();
  readonly #channel: Channel;
  readonly #initialized = Promise.withResolvers<Negotiated>();
  #negotiated: Negotiated | undefined;

  private constructor({ fd, mountPoint, log }: { fd: number; mountPoint: string; log: Log }) {
    this.fd = fd;
    this.mountPoint = mountPoint;
    this.#log = log;
    const dispatcher = new Dispatcher({
      nodes: this.#nodes,
      reply: (head, error, body) => this.#channel.reply(head, error, body),
      onInit: result => this.#onInit(result),
      log,
    });
    const handle = (request: Buffer, lengthBytes: number): void =>
      dispatcher.handle(request, lengthBytes);
    this.#channel = new Channel({ fd, handle, log });
    this.ended = this.#channel.ended;
  }

  /** Mounts on an existing, empty folder. */
  static async mount(options: { mountPoint: string; log: Log }): Promise<FuseServer> {
    const { log } = options;
    const what = `Cannot mount the disks at ${options.mountPoint}`;
    const mountPoint = await realPath(options.mountPoint, what);
    const fd = openDevice(what);
    const server = new FuseServer({ fd, mountPoint, log });
    try {
      await mount({
        source: 'imgstore',
        target: mountPoint,
        type: 'fuse.imgstore',
        flags: mountFlag.readOnly | mountFlag.noSetUid | mountFlag.noDevices | mountFlag.noExecute,
        data: [
          `fd=${fd},rootmode=40000,user_id=${process.getuid?.()},group_id=${process.getgid?.()}`,
          `default_permissions,allow_other,max_read=${readSizeMaxBytes}`,
        ].join(),
      });
    } catch (error) {
      await server.#channel.stop();
      throw ioError(what, error);
    }
    server.#channel.start();
    try {
      await Promise.race([server.#initialized.promise, server.#endedTooSoon()]);
      await server.#raiseReadAhead();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /**
   * Serves a connection that another process had mounted. `files` are all that the other one
   * served, with their serials: what the kernel asks of others is answered with ESTALE.
   */
  static adopt(options: {
    fd: number;
    state: ConnectionState;
    files: Iterable<AddedFile>;
    log: Log;
  }): FuseServer {
    const { fd, state, files, log } = options;
    if (!state.negotiated.resend) {
      const message = `Cannot take over the disks at ${state.mountPoint}: the kernel does not send`;
      const hint = 'Use Linux 6.9 or newer; unmount and mount the images again.';
      throw new ImgstoreError('UNSUPPORTED', `${message} unanswered reads again`, { hint });
    }
    const server = new FuseServer({ fd, mountPoint: state.mountPoint, log });
    server.#negotiated = state.negotiated;
    for (const { id, serial, file } of files) server.#nodes.add(id, serial, file);
    server.#channel.resend();
    server.#channel.start();
    return server;
  }

  get state(): ConnectionState {
    assert(this.#negotiated !== undefined, 'a server has its INIT behind it');
    return { mountPoint: this.mountPoint, negotiated: this.#negotiated };
  }

  /**
   * Shows the file. `id` is a plain file name that is not in use; `serial` is 1 to 2^51 and has
   * never been used on this connection, by this server or those before it.
   */
  add(id: string, serial: number, file: ServedFile): void {
    this.#nodes.add(id, serial, file);
  }

  /**
   * Takes the file away: reads under way are still answered, later ones fail with ESTALE. Resolves
   * when the kernel has forgotten the name and, unless somebody holds it open, its pages.
   */
  async remove(id: string): Promise<void> {
    if (!this.#nodes.remove(id)) return;
    const name = Buffer.from(`${id}\0`);
    const payload = Buffer.alloc(invalidateEntry.name + name.length);
    putU64(payload, invalidateEntry.parent, rootNodeId);
    payload.writeUInt32LE(name.length - 1, invalidateEntry.nameLength);
    name.copy(payload, invalidateEntry.name);
    try {
      await this.#channel.notify(notifyCode.invalidateEntry, payload);
    } catch (error) {
      // ENOENT: the kernel has never looked it up, or has forgotten it.
      if (errnoOf(error) === 'ENOENT') return;
      this.#log('warn', `Cannot make the kernel forget disk ${id}: ${describeError(error)}`);
    }
  }

  /** Where the file is to be found. */
  path(id: string): string {
    return `${this.mountPoint}/${id}/${fileName}`;
  }

  /** A snapshot, in no promised order. */
  stats(): FileStats[] {
    return this.#nodes.all().map(node => ({ ...node.stats }));
  }

  /** Unmounts, and fails with BUSY, still serving, while something is mounted on top or open. */
  async close(): Promise<void> {
    try {
      await unmountNow(this.mountPoint, { detach: false });
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EBUSY') {
        const hint = 'Unmount what lies on it, and stop what reads from it.';
        const message = `Cannot unmount the disks at ${this.mountPoint}: they are in use`;
        throw new ImgstoreError('BUSY', message, { hint, cause: error });
      }
      // EINVAL, ENOENT: somebody else has unmounted it.
      if (errno !== 'EINVAL' && errno !== 'ENOENT') {
        throw ioError(`Cannot unmount the disks at ${this.mountPoint}`, error);
      }
    }
    await this.#channel.stop();
  }

  #onInit(result: Negotiated | ImgstoreError): void {
    if (result instanceof ImgstoreError) {
      this.#initialized.reject(result);
      return;
    }
    this.#negotiated = result;
    if (!result.resend) {
      this.#log('warn', 'If this daemon is killed, reads under way hang: Linux is older than 6.9');
    }
    this.#initialized.resolve(result);
  }

  async #endedTooSoon(): Promise<never> {
    await this.ended;
    throw new ImgstoreError('IO', `Cannot mount the disks at ${this.mountPoint}: it was unmounted`);
  }

  async #raiseReadAhead(): Promise<void> {
    const [entry] = await mountsBelow(this.mountPoint);
    if (entry !== undefined) await setReadAhead(entry.device, readAheadBytes, this.#log);
  }
}

function openDevice(what: string): number {
  try {
    return openSync('/dev/fuse', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENODEV') throw ioError(what, error);
    const hint = 'Load it: modprobe fuse.';
    throw new ImgstoreError('UNSUPPORTED', `${what}: the kernel has no FUSE`, {
      hint,
      cause: error,
    });
  }
}
