/**
 * A disk as an OCI image of one layer in an OCI layout: the image's own config, with the new layer
 * in the place of the old ones. Source: OCI image spec, image-layout.md, manifest.md, config.md.
 */

import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
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
import { type ExportOptions, writeTar } from './tar.ts';

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
 * replaced and everything else kept. Errors: UNSUPPORTED if the folder holds other things, IO.
 */
export async function writeOciImage(
  recipe: Recipe,
  disk: LazyDisk,
  target: { directory: string; tag: string },
  options: ExportOptions,
): Promise<void> {
  const { directory, tag } = target;
  try {
    const index = await openLayout(directory);
    const { layer, diffId } = await writeLayer(disk, directory, options);
    const config = configWith(recipe, diffId);
    const configDescriptor = await writeBlob(directory, types.config, config);
    const manifest = await writeBlob(
      directory,
      types.manifest,
      JSON.stringify({
        schemaVersion: 2,
        mediaType: types.manifest,
        config: configDescriptor,
        layers: [layer],
      }),
    );
    const { platform } = recipe.details;
    index.manifests = index.manifests.filter(entry => entry.annotations?.[refName] !== tag);
    index.manifests.push({
      ...manifest,
      ...(platform === undefined ? {} : { platform }),
      annotations: { [refName]: tag },
    });
    await writeText(join(directory, 'index.json'), JSON.stringify(index));
  } catch (error) {
    throw ioError(`Cannot write the OCI layout ${directory}`, error);
  }
}

async function openLayout(directory: string): Promise<Index> {
  await mkdir(join(directory), { recursive: true });
  const names = await readdir(directory);
  if (names.length === 0) {
    await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true });
    await writeText(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    return { schemaVersion: 2, mediaType: types.index, manifests: [] };
  }
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

async function writeLayer(disk: LazyDisk, directory: string, options: ExportOptions) {
  const temporary = join(directory, 'blobs', `layer.${randomBytes(6).toString('hex')}.new`);
  await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true });
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
    await writeTar(disk, plain, options);
    await written;
    const hex = packed.hex();
    await rename(temporary, join(directory, 'blobs', 'sha256', hex));
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

async function writeBlob(directory: string, mediaType: string, text: string): Promise<Descriptor> {
  const bytes = Buffer.from(text);
  const hex = sha256Hex(bytes);
  await writeText(join(directory, 'blobs', 'sha256', hex), text);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

function writeText(path: string, text: string): Promise<void> {
  return writeOutputFile(path, async file => {
    await file.writeFile(text);
  });
}
