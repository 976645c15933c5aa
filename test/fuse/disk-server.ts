/**
 * The process behind the mounts of these tests: a FuseServer whose files are commanded by messages.
 * A test must not serve what it reads itself: one synchronous call would wait for itself.
 *
 * argv: the mount point, then, to take over descriptor 4, a ConnectionState and AddedFiles as JSON.
 */

import { openSync, read, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImgstoreError } from '../../src/base/errors.ts';
import { lineLog } from '../../src/base/log.ts';
import type { ServedFile } from '../../src/fuse/nodes.ts';
import { type ConnectionState, FuseServer } from '../../src/fuse/server.ts';
import { Random } from '../support/random.ts';

/** What the bytes of a file are: a file's, or pseudo-random ones of a seed. */
export interface FileSpec {
  id: string;
  serial: number;
  path?: string;
  seed?: number;
  sizeBytes?: number;
  delayMs?: number;
  /** Answer not before `delayMs`, but read at once what is before this offset. */
  slowFromBytes?: number;
}

export type Command =
  | { do: 'add'; file: FileSpec }
  | { do: 'remove'; id: string }
  | { do: 'fail'; id: string; fromBytes: number; toBytes: number }
  | { do: 'delay'; id: string; delayMs: number }
  | { do: 'stats' }
  | { do: 'state' }
  | { do: 'exhaust'; fifo: string }
  | { do: 'throw' }
  | { do: 'exit' }
  | { do: 'close' };

const patternBytes = 1024 * 1024;

/** Byte n of a seed's file is byte n mod (1 MiB - 4099) of this: no two blocks of a MiB are equal. */
export function patternOf(seed: number): Buffer {
  return new Random(seed).bytes(patternBytes - 4099);
}

/** The bytes that a file of this seed has there. */
export function patternSlices(
  pattern: Buffer,
  offsetBytes: number,
  lengthBytes: number,
): Uint8Array[] {
  const slices: Uint8Array[] = [];
  let from = offsetBytes % pattern.length;
  for (let left = lengthBytes; left > 0; from = 0) {
    const slice = pattern.subarray(from, Math.min(pattern.length, from + left));
    slices.push(slice);
    left -= slice.length;
  }
  return slices;
}

class TestFile implements ServedFile {
  readonly sizeBytes: number;
  readonly #bytes: (offsetBytes: number, lengthBytes: number) => Uint8Array[];
  readonly #slowFromBytes: number;
  delayMs: number;
  failFromBytes = 0;
  failToBytes = 0;

  constructor(spec: FileSpec) {
    this.delayMs = spec.delayMs ?? 0;
    this.#slowFromBytes = spec.slowFromBytes ?? 0;
    if (spec.path !== undefined) {
      const bytes = readFileSync(spec.path);
      this.sizeBytes = bytes.length;
      this.#bytes = (offset, length) => [bytes.subarray(offset, offset + length)];
    } else {
      const pattern = patternOf(spec.seed ?? 1);
      this.sizeBytes = spec.sizeBytes ?? patternBytes;
      this.#bytes = (offset, length) => patternSlices(pattern, offset, length);
    }
  }

  read(offsetBytes: number, lengthBytes: number): Uint8Array[] | Promise<Uint8Array[]> {
    if (offsetBytes < this.failToBytes && offsetBytes + lengthBytes > this.failFromBytes) {
      return Promise.reject(new ImgstoreError('UNAVAILABLE', 'Cannot reach the store: it is off'));
    }
    if (this.delayMs === 0 || offsetBytes + lengthBytes <= this.#slowFromBytes) {
      return this.#bytes(offsetBytes, lengthBytes);
    }
    return sleep(this.delayMs).then(() => this.#bytes(offsetBytes, lengthBytes));
  }
}

async function main(): Promise<void> {
  const [mountPoint, takeover] = process.argv.slice(2);
  const log = lineLog(line => process.send?.({ log: line }));
  const files = new Map<string, TestFile>();
  const create = (spec: FileSpec): TestFile => {
    const file = new TestFile(spec);
    files.set(spec.id, file);
    return file;
  };
  let server: FuseServer;
  if (takeover === undefined) {
    server = await FuseServer.mount({ mountPoint: mountPoint!, log });
  } else {
    const { state, specs } = JSON.parse(takeover) as { state: ConnectionState; specs: FileSpec[] };
    const added = specs.map(spec => ({ id: spec.id, serial: spec.serial, file: create(spec) }));
    server = FuseServer.adopt({ fd: 4, state, files: added, log });
  }
  const perform = async (command: Command): Promise<unknown> => {
    switch (command.do) {
      case 'add':
        return server.add(command.file.id, command.file.serial, create(command.file));
      case 'remove':
        return server.remove(command.id);
      case 'fail': {
        const file = files.get(command.id)!;
        file.failFromBytes = command.fromBytes;
        file.failToBytes = command.toBytes;
        return undefined;
      }
      case 'delay':
        files.get(command.id)!.delayMs = command.delayMs;
        return undefined;
      case 'stats':
        return server.stats();
      case 'state':
        return { pid: process.pid, fd: server.fd, state: server.state };
      case 'exhaust': {
        // Each waits, on a thread of the pool, for what nobody writes.
        const fd = openSync(command.fifo, 'r+');
        for (let i = 0; i < 16; i++) read(fd, Buffer.alloc(1), 0, 1, null, () => {});
        return undefined;
      }
      case 'throw':
        setImmediate(() => {
          throw new Error('a bug');
        });
        return undefined;
      case 'exit':
        setImmediate(() => process.exit(7));
        return undefined;
      case 'close':
        await server.close();
        return undefined;
    }
  };
  process.on('message', (message: { number: number; command: Command }) => {
    perform(message.command).then(
      result => process.send?.({ number: message.number, result: result ?? null }),
      error => process.send?.({ number: message.number, error: `${error.code}: ${error.message}` }),
    );
  });
  // A server that nobody is left to command ends, and its mount with it.
  process.on('disconnect', () => process.exit(0));
  server.ended.then(() => process.send?.({ ended: true }));
  process.send?.({ ready: true });
}

if (import.meta.main) await main();
