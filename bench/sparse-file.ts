/**
 * How fast a served disk is, with its bytes in memory as 256 KiB chunks, and EROFS on it:
 * `node bench/sparse-file.ts [MIB [READS]]` (default: 512 MiB, 20000 reads). Needs root, fio and
 * mkfs.erofs; nothing else should run. docs/format/fuse.md holds the figures.
 *
 * What it runs, each on a file that nobody has read before:
 *   dd if=FILE of=/dev/null bs=1M
 *   fio --rw=randread --bs=4k --direct=1 --ioengine=psync --number_ios=READS --filename=FILE
 * The same on a file in memory (/dev/shm) is what the kernel alone costs.
 */

import { execFile, fork } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { KiB, MiB } from '../src/base/limits.ts';
import { mountErofs, mountsBelow, unmount } from '../src/fuse/mount.ts';
import type { ServedFile } from '../src/fuse/nodes.ts';
import { FuseServer } from '../src/fuse/server.ts';

interface FileRequest {
  serial: number;
  /** Of a file to serve; undefined for random bytes. */
  path?: string;
  sizeBytes?: number;
  delayMs: number;
}

const run = promisify(execFile);
const chunkBytes = 256 * KiB;

function servedFile({ path, sizeBytes = 0, delayMs }: FileRequest): ServedFile {
  const bytes = path === undefined ? randomFillSync(Buffer.alloc(64 * MiB)) : readFileSync(path);
  const read = (offset: number, length: number): Uint8Array[] => {
    const slices: Uint8Array[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, at + chunkBytes - (at % chunkBytes));
      const from = at % bytes.length;
      slices.push(bytes.subarray(from, from + end - at));
      at = end;
    }
    return slices;
  };
  return {
    sizeBytes: path === undefined ? sizeBytes : bytes.length,
    read:
      delayMs === 0 ? read : (offset, length) => sleep(delayMs).then(() => read(offset, length)),
  };
}

async function serve(mountPoint: string): Promise<void> {
  const log = (_: string, message: string): boolean => process.stderr.write(`${message}\n`);
  const server = await FuseServer.mount({ mountPoint, log });
  process.on('message', (request: FileRequest) => {
    server.add(`m${request.serial}`, request.serial, servedFile(request));
    process.send?.('added');
  });
  process.on('disconnect', () => server.close());
  process.send?.('mounted');
}

/** MB a second, as dd measures it. */
async function sequential(path: string): Promise<number> {
  const args = [`if=${path}`, 'of=/dev/null', 'bs=1M'];
  const { stderr } = await run('dd', args, { env: { ...process.env, LC_ALL: 'C' } });
  const [, bytes, seconds] = /^([0-9]+) bytes .* copied, ([0-9.e-]+) s/m.exec(stderr) ?? [];
  return Number(bytes) / 1e6 / Number(seconds);
}

/** Microseconds. */
async function random(path: string, reads: number): Promise<{ p50: number; p99: number }> {
  const args = ['--name=x', '--rw=randread', '--bs=4k', '--direct=1', '--ioengine=psync'];
  const rest = [
    `--number_ios=${reads}`,
    `--filename=${path}`,
    '--readonly',
    '--output-format=json',
  ];
  const { stdout } = await run('fio', [...args, ...rest]);
  const job = JSON.parse(stdout).jobs[0] as {
    read: { clat_ns: { percentile: Record<string, number> } };
  };
  const at = job.read.clat_ns.percentile;
  return { p50: at['50.000000']! / 1000, p99: at['99.000000']! / 1000 };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function print(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(58)} ${value}\n`);
}

class Bench {
  readonly #dir: string;
  readonly #add: (request: FileRequest) => Promise<string>;
  readonly #sizeBytes: number;
  readonly #reads: number;
  #serial = 0;

  constructor(options: {
    dir: string;
    add: (request: FileRequest) => Promise<string>;
    sizeBytes: number;
    reads: number;
  }) {
    this.#dir = options.dir;
    this.#add = options.add;
    this.#sizeBytes = options.sizeBytes;
    this.#reads = options.reads;
  }

  async #file(options: { path?: string; delayMs?: number } = {}): Promise<string> {
    const { path, delayMs = 0 } = options;
    const what = path === undefined ? { sizeBytes: this.#sizeBytes } : { path };
    return this.#add({ serial: ++this.#serial, ...what, delayMs });
  }

  async disk(): Promise<void> {
    const memory = mkdtempSync('/dev/shm/imgstore-bench-');
    try {
      const local = join(memory, 'disk');
      writeFileSync(local, Buffer.alloc(this.#sizeBytes, 1));
      await this.#compare(local);
    } finally {
      rmSync(memory, { recursive: true });
    }
  }

  async #compare(local: string): Promise<void> {
    const [served, plain]: [number[], number[]] = [[], []];
    for (let round = 0; round < 5; round++) {
      served.push(await sequential(await this.#file()));
      plain.push(await sequential(local));
    }
    const [speed, localSpeed] = [median(served), median(plain)];
    print('sequential, 1 MiB', `${speed.toFixed(0)} MB/s`);
    const ratio = (localSpeed / speed).toFixed(1);
    print('  a file in memory', `${localSpeed.toFixed(0)} MB/s, ${ratio} times that`);
    const file = await this.#file();
    for (const [what, path] of [
      ['random 4 KiB, direct', file],
      ['  a file in memory', local],
    ] as const) {
      const { p50, p99 } = await random(path, this.#reads);
      print(what, `p50 ${p50.toFixed(0)} µs, p99 ${p99.toFixed(0)} µs`);
    }
  }

  async erofs(): Promise<void> {
    const content = join(this.#dir, 'content');
    const image = join(this.#dir, 'image');
    const directory = join(this.#dir, 'erofs');
    mkdirSync(content);
    mkdirSync(directory);
    writeFileSync(join(content, 'large'), randomFillSync(Buffer.alloc(this.#sizeBytes / 2)));
    await run('mkfs.erofs', ['--quiet', image, content]);
    for (const delayMs of [0, 5]) {
      for (const via of ['file', 'loop'] as const) {
        const speeds: number[] = [];
        for (let round = 0; round < 3; round++) {
          const diskPath = await this.#file({ path: image, delayMs });
          await mountErofs({ diskPath, directory, via });
          speeds.push(await sequential(join(directory, 'large')));
          await unmount(directory);
        }
        const what = `EROFS on it (${via}), sequential, ${delayMs} ms a read`;
        print(what, `${median(speeds).toFixed(0)} MB/s`);
      }
    }
  }
}

async function main(sizeMiB: number, reads: number): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-bench-'));
  const mountPoint = join(dir, 'fuse');
  mkdirSync(mountPoint);
  const child = fork(import.meta.filename, ['serve', mountPoint]);
  try {
    await once(child, 'message');
    const add = async (request: FileRequest): Promise<string> => {
      child.send(request);
      await once(child, 'message');
      return join(mountPoint, `m${request.serial}`, 'disk');
    };
    const bench = new Bench({ dir, add, sizeBytes: sizeMiB * MiB, reads });
    await bench.disk();
    await bench.erofs();
  } finally {
    for (const mount of await mountsBelow(dir)) {
      if (mount.type === 'erofs') await unmount(mount.mountPoint);
    }
    child.disconnect();
    await once(child, 'exit');
    rmSync(dir, { recursive: true });
  }
}

const [first = '512', second = '20000'] = process.argv.slice(2);
if (first === 'serve') await serve(second);
else await main(Number(first), Number(second));
