/**
 * A disk as one tar: every name once, in the order of the walk, hard links as links to the first
 * name. Read back as a layer it gives the same tree.
 */

import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Header, type Pack, pack } from 'tar-stream';
import type { ByteString } from '../base/byte-string.ts';
import { errnoOf, ImgstoreError } from '../base/errors.ts';
import { type DiskInode, DiskReader } from '../erofs/reader.ts';
import { shown, walkDisk } from '../erofs/walk.ts';
import { diskSource } from '../image/disk-source.ts';
import type { LazyDisk } from '../image/lazy-disk.ts';
import { fileBytes } from './file-bytes.ts';
import { fitsHeader, headerNumber, type PaxSubject, paxHeader, timeFitsHeader } from './pax.ts';

type EntryHeader = Partial<Header> & Pick<Header, 'name'>;

/** tar-stream replaces a mode of 0 by its default, so a bit that it cuts off is always set. */
const modeMarker = 0o100000;
/** Device numbers that a ustar header of tar-stream holds. */
const deviceNumberMax = 0o777777;

export interface ExportOptions {
  onProgress: (contentBytes: number) => void;
  signal?: AbortSignal | undefined;
}

/** Writes the tar and ends the stream. */
export async function writeTar(disk: LazyDisk, output: Writable, options: ExportOptions) {
  const archive = pack();
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const written = pipeline(archive, output, signal);
  written.catch(() => {}); // awaited below; the walk may fail first
  try {
    await writeEntries(disk, archive, options);
    archive.finalize();
  } catch (error) {
    archive.destroy();
    throw await causeOf(error, written);
  }
  await written;
}

/** Where the output failed first, the walk fails with no more than that its stream is gone. */
export async function causeOf(error: unknown, written: Promise<void>): Promise<unknown> {
  if (error instanceof ImgstoreError) return error;
  const ofOutput = await written.then(
    () => undefined,
    reason => reason,
  );
  return errnoOf(ofOutput) === undefined ? error : ofOutput;
}

async function writeEntries(disk: LazyDisk, archive: Pack, options: ExportOptions): Promise<void> {
  const reader = await DiskReader.open(diskSource(disk));
  const firstNames = new Map<number, ByteString>();
  let contentBytes = 0;
  for await (const { path, inode } of walkDisk(reader)) {
    options.signal?.throwIfAborted();
    const name = entryName(path, inode);
    const first = inode.kind === 'directory' ? undefined : firstNames.get(inode.nid);
    const linkPath = first ?? (inode.kind === 'symlink' ? await reader.readlink(inode) : undefined);
    const subject: PaxSubject = {
      path: name,
      linkPath,
      uid: inode.uid,
      gid: inode.gid,
      mtimeSeconds: inode.mtimeSeconds,
      mtimeNanoseconds: inode.mtimeNanoseconds,
      xattrs: await reader.xattrs(inode),
    };
    const extended = paxHeader(subject);
    if (extended !== undefined) archive.push(extended);
    const header = headerOf(inode, subject, first !== undefined, path);
    if (inode.kind === 'file' && first === undefined) {
      await writeFile(archive, header, fileBytes(disk, reader, inode));
      contentBytes += inode.sizeBytes;
      options.onProgress(contentBytes);
    } else {
      await writeEmpty(archive, header);
    }
    if (inode.linkCount > 1 && inode.kind !== 'directory') firstNames.set(inode.nid, first ?? name);
  }
}

/** `./` for the root, `a/b/` for a directory, `a/b` for the rest. */
function entryName(path: ByteString, inode: DiskInode): ByteString {
  if (path === '/') return './' as ByteString;
  return (inode.kind === 'directory' ? `${path.slice(1)}/` : path.slice(1)) as ByteString;
}

function headerOf(
  inode: DiskInode,
  subject: PaxSubject,
  isLink: boolean,
  path: ByteString,
): EntryHeader {
  const { major = 0, minor = 0 } = inode.device ?? {};
  if (major > deviceNumberMax || minor > deviceNumberMax) {
    throw new ImgstoreError(
      'UNSUPPORTED',
      `Cannot write ${shown(path)} to a tar: its device number is ${major}:${minor}`,
      { hint: 'Export the image as disk:FILE instead.' },
    );
  }
  const { linkPath } = subject;
  return {
    // A stand-in where a PAX record holds the name: what cannot read PAX shall not see half of it.
    name: fitsHeader(subject.path) ? subject.path : 'PaxPath',
    type: isLink ? 'link' : typeOf(inode),
    size: inode.kind === 'file' && !isLink ? inode.sizeBytes : 0,
    mode: inode.mode | modeMarker,
    uid: headerNumber(inode.uid),
    gid: headerNumber(inode.gid),
    mtime: new Date(timeFitsHeader(subject) ? inode.mtimeSeconds * 1000 : 0),
    devmajor: major,
    devminor: minor,
    ...(linkPath === undefined
      ? {}
      : { linkname: fitsHeader(linkPath) ? linkPath : 'PaxLinkPath' }),
  };
}

function typeOf({ kind }: DiskInode): NonNullable<Header['type']> {
  if (kind !== 'socket') return kind;
  throw new ImgstoreError('UNSUPPORTED', 'Cannot write a socket to a tar');
}

function writeEmpty(archive: Pack, header: EntryHeader): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry(header, error => (error ? reject(error) : resolve()));
  });
}

async function writeFile(archive: Pack, header: EntryHeader, bytes: AsyncIterable<Buffer>) {
  const done = Promise.withResolvers<void>();
  done.promise.catch(() => {}); // awaited below; the output may fail while a piece is read
  const entry = archive.entry(header, error => (error ? done.reject(error) : done.resolve()));
  entry.on('error', () => {}); // the callback has it, but an unheard error event ends the process
  try {
    for await (const piece of bytes) {
      if (entry.write(piece)) continue;
      await Promise.race([
        new Promise<void>(resume => entry.once('drain', () => resume())),
        done.promise,
      ]);
    }
    entry.end(undefined);
  } catch (error) {
    entry.destroy();
    throw error;
  }
  await done.promise;
}
