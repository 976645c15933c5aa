/**
 * Names of a layer's entries: cleaned to a path below the root, and what whiteout they mean.
 *
 * A cleaned path has no leading or trailing slash, no empty, `.` or `..` component; the root is ''.
 * `..` is taken lexically and stops at the root, as container runtimes do it. Source: OCI image
 * spec, layer.md, "Whiteouts"; AUFS for the `.wh..wh.` names.
 */

import type { ByteString } from '../../base/byte-string.ts';
import { nameLengthMaxBytes, pathLengthMaxBytes } from '../../base/limits.ts';
import { EntryFault } from './fault.ts';

export const rootPath = '' as ByteString;

/** Where something needs a second look: an empty, `.` or `..` component. */
const unclean = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** Throws EntryFault if the name is empty, has a NUL, or is longer than Linux can use. */
export function cleanPath(raw: ByteString): ByteString {
  if (raw === '') throw new EntryFault('CORRUPT', 'its name is empty');
  if (raw.includes('\0')) throw new EntryFault('CORRUPT', 'its name has a NUL');
  // The two common forms, `./usr` and `usr/`, need no splitting.
  const start = raw.startsWith('./') ? 2 : 0;
  const end = raw.endsWith('/') ? raw.length - 1 : raw.length;
  let path = raw.slice(start, Math.max(start, end));
  if (path !== '' && unclean.test(path)) path = cleanComponents(path);
  if (path.length > pathLengthMaxBytes)
    throw new EntryFault('LIMIT', `its path has more than ${pathLengthMaxBytes} bytes`);
  return path as ByteString;
}

function cleanComponents(path: string): string {
  const kept: string[] = [];
  for (const component of path.split('/')) {
    if (component === '..') kept.pop();
    else if (component !== '' && component !== '.') kept.push(component);
  }
  return kept.join('/');
}

/** The directory part; '' for a name in the root. */
export function parentPath(path: ByteString): ByteString {
  return path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
}

export function baseName(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1) as ByteString;
}

/** What a path stands for; of a whiteout, the path that it removes; of an opaque one, the directory. */
export interface PathMeaning {
  kind: 'entry' | 'whiteout' | 'opaque' | 'ignored';
  path: ByteString;
}

const whiteoutPrefix = '.wh.';
const metaPrefix = '.wh..wh.';
const opaqueName = '.wh..wh..opq';

/** Takes a cleaned path. Throws EntryFault for a whiteout of nothing and for names too long. */
export function meaningOf(path: ByteString): PathMeaning {
  const meaning = path.includes(whiteoutPrefix)
    ? whiteoutMeaning(path)
    : ({ kind: 'entry', path } as const);
  checkNames(meaning.path);
  return meaning;
}

function whiteoutMeaning(path: ByteString): PathMeaning {
  const parent = parentPath(path);
  const name = baseName(path);
  const ancestors = parent === '' ? [] : parent.split('/');
  const meta = (component: string) => component.startsWith(metaPrefix);
  // AUFS kept its own links and orphans under such names; they were never part of the image.
  if (ancestors.some(meta) || (meta(name) && name !== opaqueName)) return { kind: 'ignored', path };
  if (ancestors.some(component => component.startsWith(whiteoutPrefix)))
    throw new EntryFault('CORRUPT', 'it lies inside a whiteout');
  if (name === opaqueName) return { kind: 'opaque', path: parent };
  if (!name.startsWith(whiteoutPrefix)) return { kind: 'entry', path };
  const removed = name.slice(whiteoutPrefix.length);
  if (removed === '' || removed === '.' || removed === '..')
    throw new EntryFault('CORRUPT', 'it is a whiteout of no name');
  return {
    kind: 'whiteout',
    path: (parent === '' ? removed : `${parent}/${removed}`) as ByteString,
  };
}

function checkNames(path: ByteString): void {
  if (path.length <= nameLengthMaxBytes) return;
  for (let start = 0; start < path.length; ) {
    const slash = path.indexOf('/', start);
    const end = slash < 0 ? path.length : slash;
    if (end - start > nameLengthMaxBytes)
      throw new EntryFault('LIMIT', `a name in it has more than ${nameLengthMaxBytes} bytes`);
    start = end + 1;
  }
}
