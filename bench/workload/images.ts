/**
 * Images that share a base, small enough to push in seconds, and what a program of each reads when it
 * starts: a few megabytes of the base, which all read, and of its own. Much of an image nobody reads.
 */

import { FileBytes, writeImage, writeTar } from '../synthetic.ts';

export interface StartedImage {
  name: string;
  /** For `imgstore push`. */
  source: string;
  /** Of `ownPath`: no other image has them. */
  own: Buffer;
}

export const ownPath = 'app/program';
const baseFiles = { read: 4, unread: 4, smallRead: 24 };
/** What a start reads, in its order. */
export const readPaths = [
  ...Array.from({ length: baseFiles.smallRead }, (_, at) => `lib/small-${at}`),
  ...Array.from({ length: baseFiles.read }, (_, at) => `lib/read-${at}`),
  ownPath,
  'app/data',
];

/** `sizeBytes`: of a file of the base that is read; the others are in proportion. */
export function writeImages(dir: string, count: number, sizeBytes: number): StartedImage[] {
  const generator = new FileBytes();
  const bytes = (size: number) => generator.bytes(size);
  const base = [
    ...named('lib/small', baseFiles.smallRead, at => bytes(((1 + at) * sizeBytes) / 1024)),
    ...named('lib/read', baseFiles.read, () => bytes(sizeBytes)),
    ...named('lib/unread', baseFiles.unread, () => bytes(sizeBytes)),
  ];
  const layer = writeTar(dir, base);
  return Array.from({ length: count }, (_, at) => {
    const own = bytes((2 * sizeBytes) / 3);
    const name = `image-${at}`;
    const files: [string, Buffer][] = [
      [ownPath, own],
      ['app/data', bytes((2 * sizeBytes) / 3)],
      ['app/unread', bytes((2 * sizeBytes) / 3)],
    ];
    return { name, own, source: writeImage(dir, name, [layer, writeTar(dir, files)]) };
  });
}

function named(prefix: string, count: number, make: (at: number) => Buffer): [string, Buffer][] {
  return Array.from({ length: count }, (_, at) => [`${prefix}-${at}`, make(at)]);
}
