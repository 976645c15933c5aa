/**
 * A source image over a BlobSource: its manifest is chosen and read; its config is read here, its
 * layers when they are asked for.
 */

import { type OciDigest, ociDigest, Sha256 } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import {
  configSizeMaxBytes,
  layerExpansionMax,
  layerSizeAlwaysAllowedBytes,
} from '../../base/limits.ts';
import type {
  OpenLayerOptions,
  SourceImage,
  SourceLayer,
  SourcePlatform,
} from '../source-image.ts';
import {
  type BlobName,
  type BlobSource,
  blobLabel,
  checkPresence,
  type ReadBlobOptions,
  type ReadConfigOptions,
  readBlob,
  readDocument,
} from './blob-source.ts';
import { decompress } from './decompress.ts';
import { type Descriptor, type ImageConfig, type Manifest, parseConfig } from './documents.ts';
import { malformed } from './json.ts';

export interface ChosenManifest {
  digest: OciDigest;
  manifest: Manifest;
  /** As the index says; the config is asked if it does not. */
  platform?: SourcePlatform | undefined;
}

/** The source is the image's from here on, to be closed by it. Every blob is there, by size. */
export async function openBlobImage(
  source: BlobSource,
  chosen: ChosenManifest,
  options: ReadConfigOptions,
): Promise<SourceImage> {
  const { manifest } = chosen;
  const config = await readConfig(source, manifest.config, options);
  if (config.diffIds.length !== manifest.layers.length) {
    const where = blobLabel(source, { ...manifest.config, kind: 'config' });
    throw malformed(
      where,
      `it has ${config.diffIds.length} diff_ids for ${manifest.layers.length} layers`,
    );
  }
  const layers = manifest.layers.map(({ digest, sizeBytes }, i) => {
    return { digest, sizeBytes, diffId: config.diffIds[i]! };
  });
  for (const layer of layers) {
    options.signal?.throwIfAborted();
    await checkPresence(source, { kind: 'layer', ...layer });
  }
  return new BlobImage(source, chosen, config, layers);
}

export async function readConfig(
  source: BlobSource,
  { digest, sizeBytes }: Descriptor,
  { knownConfig, ...options }: ReadConfigOptions,
): Promise<ImageConfig> {
  const blob: BlobName = { kind: 'config', digest, sizeBytes };
  const known = knownConfig === undefined ? undefined : Buffer.from(knownConfig);
  if (known?.length === sizeBytes && ociDigest(known) === digest) {
    return parseConfig(known, blobLabel(source, blob));
  }
  const limits = { ...options, sizeMaxBytes: configSizeMaxBytes };
  return parseConfig(await readDocument(source, blob, limits), blobLabel(source, blob));
}

class BlobImage implements SourceImage {
  readonly manifestDigest: OciDigest;
  readonly platform: SourcePlatform;
  readonly configText: string;
  readonly layers: readonly SourceLayer[];
  readonly #source: BlobSource;

  constructor(
    source: BlobSource,
    chosen: ChosenManifest,
    config: ImageConfig,
    layers: readonly SourceLayer[],
  ) {
    this.#source = source;
    this.manifestDigest = chosen.digest;
    this.platform = chosen.platform ?? config.platform;
    this.configText = config.text;
    this.layers = layers;
  }

  get reference(): string {
    return this.#source.reference;
  }

  openLayer(index: number, { signal, ahead }: OpenLayerOptions): AsyncIterable<Buffer> {
    const layer = this.layers[index];
    if (layer === undefined) throw new RangeError(`there is no layer ${index}`);
    const digests = ahead?.map(next => this.layers[next]!.digest);
    return readLayer(this.#source, layer, { signal, ahead: digests });
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}

/** What a layer of that stored size may unpack to. */
export function layerSizeMax(storedSizeBytes: number): number {
  return Math.max(layerSizeAlwaysAllowedBytes, layerExpansionMax * storedSizeBytes);
}

/** The layer's tar; `sizeMaxBytes` replaces layerSizeMax in tests. */
export async function* readLayer(
  source: BlobSource,
  layer: SourceLayer,
  options: ReadBlobOptions & { sizeMaxBytes?: number },
): AsyncGenerator<Buffer, void> {
  const blob: BlobName = { kind: 'layer', digest: layer.digest, sizeBytes: layer.sizeBytes };
  const stored = readBlob(source, blob, options);
  if (layer.digest === layer.diffId) {
    // The tar is the blob itself, and one SHA-256 proves both.
    yield* stored;
    return;
  }
  const label = blobLabel(source, blob);
  const sizeMaxBytes = options.sizeMaxBytes ?? layerSizeMax(layer.sizeBytes);
  const hash = new Sha256();
  for await (const piece of decompress(stored, { label, sizeMaxBytes })) {
    options.signal?.throwIfAborted();
    hash.update(piece);
    yield piece;
  }
  const diffId = `sha256:${hash.hex()}`;
  if (diffId !== layer.diffId) {
    throw new ImgstoreError(
      'CORRUPT',
      `Cannot read ${label}: it unpacks to ${diffId}, the config says ${layer.diffId}`,
      { hint: 'Manifest and config do not belong together; build or copy the image again.' },
    );
  }
}
