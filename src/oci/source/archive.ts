/** A tar file whose members are the blobs of an image, read in place. */

import type { FileHandle } from 'node:fs/promises';
import { type OciDigest, Sha256 } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import { absentBlob, type BlobSource, type ReadOptions, tooLarge } from './blob-source.ts';
import { type Compression, compressionOf, magicSizeMaxBytes } from './decompress.ts';
import type { Descriptor } from './documents.ts';
import { type FileRange, openRegularFile, readFully, readRange } from './file-range.ts';
import { indexTar, type TarIndex } from './tar-index.ts';

/** What skopeo calls the layers of such an archive, packed or not. */
const layerType = 'application/vnd.docker.image.rootfs.diff.tar.gzip';

/** One open file for as long as the image is open: what was indexed is what is read. */
export class Archive implements BlobSource {
  readonly reference: string;
  readonly #file: FileHandle;
  readonly #index: TarIndex;
  /** Blobs that are not members `blobs/…`: what manifest.json names. */
  readonly #blobs = new Map<OciDigest, FileRange>();

  private constructor(reference: string, file: FileHandle, index: TarIndex) {
    this.reference = reference;
    this.#file = file;
    this.#index = index;
  }

  static async open(reference: string, path: string, options: ReadOptions): Promise<Archive> {
    const opened = await openRegularFile(path, reference);
    if (opened === undefined) throw absentBlob(reference);
    const { file, sizeBytes } = opened;
    try {
      await checkNotCompressed(file, sizeBytes, reference);
      const index = await indexTar(file, { sizeBytes, label: reference, ...options });
      return new Archive(reference, file, index);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  has(path: string): boolean {
    return this.#index.find(path) !== undefined;
  }

  member(path: string): FileRange {
    const range = this.#index.find(path);
    if (range === undefined) throw absentBlob(`${path.slice(0, 300)} of ${this.reference}`);
    return range;
  }

  async document(path: string, sizeMaxBytes: number): Promise<Buffer> {
    const { offsetBytes, sizeBytes } = this.member(path);
    const label = `${path.slice(0, 300)} of ${this.reference}`;
    if (sizeBytes > sizeMaxBytes) throw tooLarge(label, sizeBytes, sizeMaxBytes);
    return readFully(this.#file, offsetBytes, sizeBytes, label);
  }

  /** A plain layer is its own tar, so its digest is the diffID; any other has to be read for it. */
  async addLayer(range: FileRange, diffId: OciDigest, options: ReadOptions): Promise<Descriptor> {
    const compression = await compressionAt(this.#file, range, this.reference);
    const digest = compression === 'plain' ? diffId : await this.#digest(range, options);
    return this.addBlob(layerType, { range, digest });
  }

  addBlob(mediaType: string, blob: { range: FileRange; digest: OciDigest }): Descriptor {
    const { range, digest } = blob;
    this.#blobs.set(digest, range);
    return { mediaType, digest, sizeBytes: range.sizeBytes, annotations: {} };
  }

  async sizeOf(digest: OciDigest): Promise<number | undefined> {
    return this.#find(digest)?.sizeBytes;
  }

  async *read(digest: OciDigest): AsyncGenerator<Buffer, void> {
    const label = `blob ${digest} of ${this.reference}`;
    const range = this.#find(digest);
    if (range === undefined) throw absentBlob(label);
    yield* readRange(this.#file, range, label);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #find(digest: OciDigest): FileRange | undefined {
    return this.#blobs.get(digest) ?? this.#index.find(`blobs/${digest.replace(':', '/')}`);
  }

  async #digest(range: FileRange, { signal }: ReadOptions): Promise<OciDigest> {
    const hash = new Sha256();
    for await (const piece of readRange(this.#file, range, this.reference)) {
      signal?.throwIfAborted();
      hash.update(piece);
    }
    return `sha256:${hash.hex()}` as OciDigest;
  }
}

async function checkNotCompressed(
  file: FileHandle,
  sizeBytes: number,
  reference: string,
): Promise<void> {
  const compression = await compressionAt(file, { offsetBytes: 0, sizeBytes }, reference);
  if (compression === 'plain') return;
  const state = 'the file is compressed as a whole';
  throw new ImgstoreError('UNSUPPORTED', `Cannot open ${reference}: ${state}`, {
    hint: `Its layers are read in place; unpack it first with ${compression} -d.`,
  });
}

async function compressionAt(
  file: FileHandle,
  { offsetBytes, sizeBytes }: FileRange,
  label: string,
): Promise<Compression> {
  const lengthBytes = Math.min(magicSizeMaxBytes, sizeBytes);
  return compressionOf(await readFully(file, offsetBytes, lengthBytes, label));
}
