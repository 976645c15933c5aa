/**
 * An image of any size in seconds: layers of 512 MiB, of files as an image has them. The bytes
 * are the same in every build; most of them are words, which zstd shrinks to a third, a seventh does
 * not shrink. No two chunks are the same.
 */

import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { KiB, MiB } from '../src/base/limits.ts';
import {
  addToIndex,
  type Descriptor,
  mediaTypes,
  writeDocument,
} from '../test/support/oci-layout.ts';
import { padded, tarHeader } from '../test/support/tar-builder.ts';

const layerBytes = 512 * MiB;
/** Sizes of files, in turn: most are small, most bytes are in large ones. */
const fileSizes = [1, 3, 6, 2, 20, 4, 9, 40, 1, 150, 5, 700, 2, 12, 3000, 16_000].map(
  size => size * KiB + 123,
);

/** Writes an OCI layout with the image `tag`, of plain tars; returns its source for imgstore. */
export function writeSyntheticImage(dir: string, tag: string, contentBytes: number): string {
  return writeImage(dir, tag, writeLayers(dir, contentBytes, new FileBytes()));
}

/**
 * The image `before`, and `after` of which the last layer was built again with other bytes in one
 * file, as a program's own files are at each of its builds.
 */
export function writeChangedImage(
  dir: string,
  contentBytes: number,
): { before: string; after: string; changed: Buffer } {
  const generator = new FileBytes();
  const appBytes = Math.floor(contentBytes / 64);
  const base = writeLayers(dir, contentBytes - appBytes, generator);
  const [old, changed] = [generator.bytes(appBytes / 4), generator.bytes(appBytes / 4)];
  const rest = generator.bytes((3 * appBytes) / 4);
  const image = (tag: string, app: Buffer) => {
    const files: [string, Buffer][] = [
      ['app/program', app],
      ['app/data', rest],
    ];
    return writeImage(dir, tag, [...base, writeTar(dir, files)]);
  };
  return { before: image('before', old), after: image('after', changed), changed };
}

function writeLayers(dir: string, contentBytes: number, generator: FileBytes): Descriptor[] {
  const layers: Descriptor[] = [];
  for (let left = contentBytes; left > 0; left -= layerBytes) {
    layers.push(writeTar(dir, filesOf(Math.min(left, layerBytes), generator)));
  }
  return layers;
}

function* filesOf(contentBytes: number, generator: FileBytes): Generator<[string, Buffer]> {
  for (let left = contentBytes; left > 0; ) {
    const name = `files/${generator.count}`;
    const bytes = generator.file(left);
    yield [name, bytes];
    left -= bytes.length;
  }
}

/** Of layers that `writeTar` wrote to the same layout; returns the image's source for imgstore. */
export function writeImage(dir: string, tag: string, layers: readonly Descriptor[]): string {
  const platform = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch };
  const config = writeDocument(dir, mediaTypes.config, {
    ...platform,
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
  });
  const manifest = writeDocument(dir, mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config,
    layers,
  });
  manifest.annotations = { 'org.opencontainers.image.ref.name': tag };
  manifest.platform = platform;
  addToIndex(dir, manifest);
  return `oci:${dir}:${tag}`;
}

/** A layer, of files by their paths. */
export function writeTar(dir: string, files: Iterable<[string, Buffer]>): Descriptor {
  const blobs = join(dir, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const temporary = join(blobs, 'layer.tmp');
  const file = openSync(temporary, 'w');
  const hash = createHash('sha256');
  let size = 0;
  const append = (bytes: Uint8Array) => {
    writeSync(file, bytes);
    hash.update(bytes);
    size += bytes.length;
  };
  for (const [name, bytes] of files) {
    append(tarHeader({ name, size: bytes.length }));
    append(padded(bytes));
  }
  append(Buffer.alloc(1024));
  closeSync(file);
  const hex = hash.digest('hex');
  renameSync(temporary, join(blobs, hex));
  return { mediaType: mediaTypes.layer, digest: `sha256:${hex}`, size };
}

export class FileBytes {
  count = 0;
  /** Noise, and words that repeat: the sources of all bytes. */
  readonly #noise = keystream(4 * MiB);
  readonly #words = wordsFrom(this.#noise, 4 * MiB);

  /** The next file, of at most `maxBytes`. */
  file(maxBytes: number): Buffer {
    return this.bytes(Math.min(maxBytes, fileSizes[this.count % fileSizes.length]!));
  }

  bytes(sizeBytes: number): Buffer {
    const size = Math.floor(sizeBytes);
    const source = this.count % 4 === 2 ? this.#noise : this.#words;
    const bytes = Buffer.allocUnsafe(size);
    // From another place each time, with its own number every 4 KiB: nothing is ever the same.
    for (let at = 0; at < size; at += 4 * KiB) {
      const from = (this.count * 65_537 + at) % (source.length - 4 * KiB);
      source.copy(bytes, at, from, from + Math.min(4 * KiB, size - at));
      bytes.write(`${this.count}.${at}`, at, 'latin1');
    }
    this.count++;
    return bytes;
  }
}

function keystream(sizeBytes: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < sizeBytes; at += 32) {
    parts.push(createHash('sha256').update(String(at)).digest());
  }
  return Buffer.concat(parts);
}

/** Of a vocabulary of 4096 words, the frequent ones more often. */
function wordsFrom(noise: Buffer, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0, draw = 0; at < sizeBytes; draw = (draw + 3) % (noise.length - 8)) {
    const word = Math.floor(noise.readUInt16LE(draw) ** 2 / 2 ** 20);
    const text = `${noise.toString('hex', word * 5, word * 5 + 3 + (word % 4))} `;
    at += bytes.write(text, at, 'latin1') || sizeBytes;
  }
  return bytes;
}
