/**
 * Reads a file of disk-server.ts' pattern in its own process and compares every byte.
 * argv: a mode, the path, the seed. Exit status 0: all bytes are right; errors are on stderr.
 */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import koffi from 'koffi';
import { Random } from '../support/random.ts';
import { patternOf, patternSlices } from './disk-server.ts';

const libc = koffi.load(null);
const mapShared = 1;
const adviseWillNeed = 3;

function compare(pattern: Buffer, actual: Uint8Array, offsetBytes: number): void {
  const expected = Buffer.concat(patternSlices(pattern, offsetBytes, actual.length));
  if (expected.compare(actual) !== 0) throw new Error(`wrong bytes at ${offsetBytes}`);
}

function main(mode: string, path: string, seed: number): void {
  const pattern = patternOf(seed);
  const fd = openSync(path, mode === 'direct' ? constants.O_DIRECT : constants.O_RDONLY);
  const { size } = fstatSync(fd);
  const random = new Random(process.pid);
  const read = (offset: number, length: number, buffer: Buffer = Buffer.alloc(length)): void => {
    const count = readSync(fd, buffer, 0, length, offset);
    if (count !== Math.min(length, size - offset)) throw new Error(`${count} bytes at ${offset}`);
    compare(pattern, buffer.subarray(0, count), offset);
  };
  if (mode === 'sequential') {
    for (let offset = 0; offset < size; offset += 1_000_000) read(offset, 1_000_000);
  } else if (mode === 'random') {
    for (let i = 0; i < 200; i++) read(random.below(size), random.between(1, 300_000));
  } else if (mode === 'direct') {
    const buffer = alignedBuffer(2 ** 21);
    for (let i = 0; i < 200; i++) {
      read(random.below(size / 4096) * 4096, random.between(1, 512) * 4096, buffer);
    }
  } else if (mode === 'mmap') {
    const map = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
    const bytes = new Uint8Array(koffi.view(map(null, size, 1, mapShared, fd, 0), size));
    for (let i = 0; i < 200; i++) {
      const offset = random.below(size - 10_000);
      compare(pattern, bytes.slice(offset, offset + 10_000), offset);
    }
  } else if (mode === 'advise') {
    const advise = libc.func('int posix_fadvise(int, int64_t, int64_t, int)');
    // Far enough apart that the kernel asks for each on its own.
    for (let i = 0; i < 1000; i++) advise(fd, i * 65_536, 4096, adviseWillNeed);
  } else throw new Error(`no mode ${mode}`);
  closeSync(fd);
}

/** On a page: direct I/O is refused elsewhere. */
function alignedBuffer(sizeBytes: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(sizeBytes + 4096);
  const start = 4096 - Number(koffi.address(buffer) % 4096n);
  return buffer.subarray(start, start + sizeBytes);
}

const [mode, path, seed] = process.argv.slice(2);
main(mode!, path!, Number(seed));
