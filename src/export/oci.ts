/**
 * A disk as an OCI image of one layer in an OCI layout: the image's own config, with the new layer
 * in the place of the old ones. Source: OCI image spec, image-layout.md, manifest.md, config.md.
 */

import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { sha256Hex } from '../base/digest.ts';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { MiB, manifestSizeMaxBytes } from '../base/limits.ts';
import type { LazyDisk } from '../image/lazy-disk.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { writeOutputFile } from './output-file.ts';
import { causeOf, type ExportOptions, writeTar } from './tar.ts';

const types = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;
const refName = 'org.opencontainers.image.ref.name';

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
  platform?: object;
}

interface Index {
  schemaVersion: 2;
  mediaType?: string;
  manifests: Descriptor[];
}

/**
 * Writes the image into `directory`, which is new, empty or an OCI layout; there the tag is
 * replaced and everything else kept. Whatever fails, what was made is removed again. Errors:
 * UNSUPPORTED if the folder holds other things, IO.
 */
export async function writeOciImage(
  recipe: Recipe,
  disk: LazyDisk,
  target: { directory: string; tag: string },
  options: ExportOptions,
): Promise<void> {
  const { directory, tag } = target;
  const made = new Made();
  try {
    await made.folder(directory);
    const index = await readIndex(directory);
    await made.folder(join(directory, 'blobs', 'sha256'));
    const { layer, diffId } = await writeLayer(disk, directory, made, options);
    const config = await writeBlob(directory, types.config, configWith(recipe, diffId), made);
    const document = { schemaVersion: 2, mediaType: types.manifest, config, layers: [layer] };
    const manifest = await writeBlob(directory, types.manifest, JSON.stringify(document), made);
    const { platform } = recipe.details;
    index.manifests = index.manifests.filter(entry => entry.annotations?.[refName] !== tag);
    index.manifests.push({
      ...manifest,
      ...(platform === undefined ? {} : { platform }),
      annotations: { [refName]: tag },
    });
    await writeText(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}', made);
    await writeText(join(directory, 'index.json'), JSON.stringify(index), made);
  } catch (error) {
    await made.remove();
    throw ioError(`Cannot write the OCI layout ${directory}`, error);
  }
}

/** What an export has made, and was not there before. */
class Made {
  readonly #paths: string[] = [];

  async folder(path: string): Promise<void> {
    const first = await mkdir(path, { recursive: true });
    if (first !== undefined) this.#paths.push(first);
  }

  /** To be called before the file is put there. */
  file(path: string): void {
    if (!existsSync(path)) this.#paths.push(path);
  }

  async remove(): Promise<void> {
    for (const path of this.#paths.reverse()) await rm(path, { recursive: true, force: true });
  }
}

/** An empty one for an empty folder. */
async function readIndex(directory: string): Promise<Index> {
  const names = await readdir(directory);
  if (names.length === 0) return { schemaVersion: 2, mediaType: types.index, manifests: [] };
  const path = join(directory, 'index.json');
  const notOurs = new ImgstoreError(
    'UNSUPPORTED',
    `Cannot export to ${directory}: it holds other things than an OCI layout`,
    { hint: 'Name a new folder, or one that is an OCI layout.' },
  );
  if (!names.includes('oci-layout') || !names.includes('index.json')) throw notOurs;
  if ((await stat(path)).size > manifestSizeMaxBytes) throw notOurs;
  try {
    const index = JSON.parse(await readFile(path, 'utf8')) as Index;
    if (!Array.isArray(index.manifests)) throw notOurs;
    return index;
  } catch (error) {
    if (errnoOf(error) !== undefined) throw error;
    throw notOurs;
  }
}

async function writeLayer(disk: LazyDisk, directory: string, made: Made, options: ExportOptions) {
  const temporary = join(directory, 'blobs', `layer.${randomBytes(6).toString('hex')}.new`);
  try {
    const plain = new HashingStream();
    const packed = new HashingStream();
    const written = pipeline(
      plain,
      createGzip({ chunkSize: MiB }),
      packed,
      createWriteStream(temporary, { flags: 'wx', flush: true }),
    );
    written.catch(() => {}); // awaited below; the tar may fail first
    await writeTar(disk, plain, options).catch(async error => {
      plain.destroy();
      throw await causeOf(error, written);
    });
    await written;
    const hex = packed.hex();
    const path = blobPath(directory, hex);
    made.file(path);
    await rename(temporary, path);
    const layer = { mediaType: types.layer, digest: `sha256:${hex}`, size: packed.sizeBytes };
    return { layer, diffId: `sha256:${plain.hex()}` };
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Passes bytes on and hashes them. */
class HashingStream extends Transform {
  readonly #hash = createHash('sha256');
  sizeBytes = 0;

  override _transform(bytes: Buffer, _encoding: string, callback: TransformCallback): void {
    this.#hash.update(bytes);
    this.sizeBytes += bytes.length;
    callback(null, bytes);
  }

  hex(): string {
    return this.#hash.digest('hex');
  }
}

/** The image's config with one layer; what its history says of the old ones is gone with them. */
function configWith(recipe: Recipe, diffId: string): string {
  const config = JSON.parse(recipe.details.configText ?? '{}') as Record<string, unknown>;
  return JSON.stringify({
    ...config,
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created_by: 'imgstore export' }],
  });
}

async function writeBlob(
  directory: string,
  mediaType: string,
  text: string,
  made: Made,
): Promise<Descriptor> {
  const bytes = Buffer.from(text);
  const hex = sha256Hex(bytes);
  await writeText(blobPath(directory, hex), text, made);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

function blobPath(directory: string, hex: string): string {
  return join(directory, 'blobs', 'sha256', hex);
}

async function writeText(path: string, text: string, made: Made): Promise<void> {
  made.file(path);
  await writeOutputFile(path, async file => {
    await file.writeFile(text);
  });
}
