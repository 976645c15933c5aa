/**
 * Where the blobs of an image lie, and the one way to read them: verified. Documents are read whole
 * and within a limit, layers as streams.
 */

import { type OciDigest, Sha256 } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';

/**
 * Contract: implementations verify nothing and may be asked for several blobs at once. What is
 * neither there nor absent (no permission, not a regular file) is an ImgstoreError.
 */
export interface BlobSource {
  /** What the user named, for messages. */
  readonly reference: string;
  /**
   * Bytes as stored, undefined if absent. A registry, which takes no manifest without its blobs, is
   * taken at its manifests' word instead of being asked for each.
   */
  sizeOf(digest: OciDigest): Promise<number | undefined>;
  /**
   * The stored bytes, in pieces that belong to the consumer; NOT_FOUND if absent. Ending the
   * iteration early releases everything.
   */
  read(digest: OciDigest, options: ReadBlobOptions): AsyncIterable<Buffer>;
  close(): Promise<void>;
}

export interface ReadOptions {
  signal?: AbortSignal | undefined;
}

export interface ReadConfigOptions extends ReadOptions {
  /** Text that is not read again if it is the very config. */
  knownConfig?: string | undefined;
}

export interface ReadBlobOptions extends ReadOptions {
  /** Of a layer: those that will most likely be read next, in this order. */
  ahead?: readonly OciDigest[] | undefined;
}

export interface BlobName {
  /** `layer`, `manifest`, …: for messages. */
  kind: string;
  digest: OciDigest;
  sizeBytes: number;
}

export function blobLabel(source: BlobSource, blob: BlobName): string {
  return `${blob.kind} ${blob.digest} of ${source.reference}`;
}

/** NOT_FOUND or CORRUPT unless the blob is there with its size: found out before hours of work. */
export async function checkPresence(source: BlobSource, blob: BlobName): Promise<void> {
  const sizeBytes = await source.sizeOf(blob.digest);
  if (sizeBytes === undefined) throw absentBlob(blobLabel(source, blob));
  if (sizeBytes !== blob.sizeBytes) throw wrongSize(source, blob, sizeBytes);
}

/** The blob's bytes; the iteration ends normally only if size and digest were right. */
export async function* readBlob(
  source: BlobSource,
  blob: BlobName,
  options: ReadBlobOptions,
): AsyncGenerator<Buffer, void> {
  const hash = new Sha256();
  let seenBytes = 0;
  await checkPresence(source, blob);
  for await (const piece of source.read(blob.digest, options)) {
    options.signal?.throwIfAborted();
    seenBytes += piece.length;
    if (seenBytes > blob.sizeBytes) throw wrongSize(source, blob, seenBytes);
    hash.update(piece);
    yield piece;
  }
  if (seenBytes !== blob.sizeBytes) throw wrongSize(source, blob, seenBytes);
  const digest = `sha256:${hash.hex()}`;
  if (digest !== blob.digest) {
    throw new ImgstoreError(
      'CORRUPT',
      `Cannot read ${blobLabel(source, blob)}: its bytes have the digest ${digest}`,
      { hint: 'Its file is damaged; copy the image again.' },
    );
  }
}

/** A whole document of at most `sizeMaxBytes`. */
export async function readDocument(
  source: BlobSource,
  blob: BlobName,
  options: ReadOptions & { sizeMaxBytes: number },
): Promise<Buffer> {
  const { sizeMaxBytes } = options;
  if (blob.sizeBytes > sizeMaxBytes) {
    throw tooLarge(blobLabel(source, blob), blob.sizeBytes, sizeMaxBytes);
  }
  const pieces: Buffer[] = [];
  for await (const piece of readBlob(source, blob, options)) pieces.push(piece);
  return Buffer.concat(pieces);
}

export function absentBlob(label: string): ImgstoreError {
  return new ImgstoreError('NOT_FOUND', `Cannot read ${label}: it is not there`, {
    hint: 'The image was copied in part; copy it again, with all its layers.',
  });
}

export function tooLarge(label: string, sizeBytes: number, sizeMaxBytes: number): ImgstoreError {
  return new ImgstoreError(
    'LIMIT',
    `Cannot read ${label}: it has ${sizeBytes} bytes, the limit is ${sizeMaxBytes}`,
    { hint: 'No image that runs has such a document.' },
  );
}

function wrongSize(source: BlobSource, blob: BlobName, sizeBytes: number): ImgstoreError {
  return new ImgstoreError(
    'CORRUPT',
    `Cannot read ${blobLabel(source, blob)}: it has ${sizeBytes} bytes instead of ${blob.sizeBytes}`,
    { hint: 'It is damaged or incomplete; copy the image again.' },
  );
}
