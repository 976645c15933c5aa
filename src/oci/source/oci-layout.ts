/**
 * `oci:DIR[:TAG]`: an OCI image layout in a directory (OCI image-spec 1.1, image-layout.md).
 * Symbolic links in it are followed: a shared folder of blobs is common.
 */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { OciDigest } from '../../base/digest.ts';
import { errnoOf, ImgstoreError, ioError } from '../../base/errors.ts';
import { KiB, manifestSizeMaxBytes } from '../../base/limits.ts';
import type { SourceImage } from '../source-image.ts';
import { openBlobImage } from './blob-image.ts';
import { absentBlob, type BlobSource, tooLarge } from './blob-source.ts';
import { type Descriptor, parseIndex } from './documents.ts';
import { notRegular, openRegularFile, readFully, readRange } from './file-range.ts';
import { asString, malformed, parseJsonObject, utf8Text } from './json.ts';
import { nearestPath, splitPathReference } from './path-reference.ts';
import { entriesOfImage, type SelectOptions, selectManifest } from './select.ts';

/** It holds one short object. */
const markerSizeMaxBytes = 4 * KiB;
const tagAnnotation = 'org.opencontainers.image.ref.name';

export async function openOciLayout(
  reference: string,
  details: string,
  options: SelectOptions,
): Promise<SourceImage> {
  const split = await splitPathReference(details, path => exists(join(path, 'oci-layout')));
  if (split === undefined) throw await noLayout(reference, details);
  const source = new LayoutDirectory(reference, split.path);
  checkMarker(
    await source.document('oci-layout', markerSizeMaxBytes),
    `oci-layout of ${reference}`,
  );
  const entries = readIndexFile(
    await source.document('index.json', manifestSizeMaxBytes),
    reference,
  );
  const tag = split.name;
  const image = entriesOfImage(reference, entries, {
    nameOf: tagOf,
    wanted: tag === undefined ? undefined : { text: tag, matches: entry => tagOf(entry) === tag },
  });
  return openBlobImage(source, await selectManifest(source, image, options), options);
}

/** UNSUPPORTED unless it is version 1. */
export function checkMarker(bytes: Buffer, where: string): void {
  const marker = parseJsonObject(utf8Text(bytes, where), where);
  const version = asString(marker['imageLayoutVersion'], where, 'imageLayoutVersion');
  if (/^1\./.test(version)) return;
  throw new ImgstoreError(
    'UNSUPPORTED',
    `Cannot read ${where}: it is of version ${version.slice(0, 40)}`,
    {
      hint: 'Only version 1 is known; copy the image with a tool that writes it.',
    },
  );
}

/** Its number of entries is bounded by its size alone: a layout may hold many images. */
export function readIndexFile(bytes: Buffer, reference: string): Descriptor[] {
  return parseIndex(bytes, `index.json of ${reference}`, Number.POSITIVE_INFINITY);
}

export function tagOf(entry: Descriptor): string | undefined {
  const tag = entry.annotations[tagAnnotation];
  return typeof tag === 'string' ? tag : undefined;
}

class LayoutDirectory implements BlobSource {
  readonly reference: string;
  readonly #path: string;

  constructor(reference: string, path: string) {
    this.reference = reference;
    this.#path = path;
  }

  async sizeOf(digest: OciDigest): Promise<number | undefined> {
    const label = `blob ${digest} of ${this.reference}`;
    try {
      const found = await stat(this.#blobPath(digest));
      if (!found.isFile()) throw notRegular(label);
      return found.size;
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw ioError(`Cannot read ${label}`, error);
    }
  }

  async *read(digest: OciDigest): AsyncGenerator<Buffer, void> {
    const label = `blob ${digest} of ${this.reference}`;
    const opened = await openRegularFile(this.#blobPath(digest), label);
    if (opened === undefined) throw absentBlob(label);
    try {
      yield* readRange(opened.file, { offsetBytes: 0, sizeBytes: opened.sizeBytes }, label);
    } finally {
      await opened.file.close();
    }
  }

  /** A document that is not a blob. */
  async document(name: string, sizeMaxBytes: number): Promise<Buffer> {
    const label = `${name} of ${this.reference}`;
    const opened = await openRegularFile(join(this.#path, name), label);
    if (opened === undefined) throw malformed(label, 'it is not there');
    try {
      if (opened.sizeBytes > sizeMaxBytes) throw tooLarge(label, opened.sizeBytes, sizeMaxBytes);
      return await readFully(opened.file, 0, opened.sizeBytes, label);
    } finally {
      await opened.file.close();
    }
  }

  async close(): Promise<void> {
    // Every read opens and closes its own file.
  }

  /** The digest is parsed, so it holds no `/` or `..`. */
  #blobPath(digest: OciDigest): string {
    return join(this.#path, 'blobs', ...digest.split(':'));
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
}

function isAbsence(error: unknown): boolean {
  return errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR';
}

async function noLayout(reference: string, details: string): Promise<ImgstoreError> {
  const { path, isDirectory } = await nearestPath(reference, details);
  const state = isDirectory ? `${path} has no file oci-layout` : `${path} is not a directory`;
  return new ImgstoreError('UNSUPPORTED', `Cannot open ${reference}: ${state}`, {
    hint: isDirectory
      ? 'Name the directory of an OCI image layout.'
      : 'For a file that docker save wrote, use docker-archive:FILE.',
  });
}
