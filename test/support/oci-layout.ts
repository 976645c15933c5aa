/** Writes OCI image layouts from tar bytes, well-formed by itself; tests damage them afterwards. */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

export const mediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

export interface LayoutPlatform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface LayoutLayer {
  tar: Buffer;
  compression: 'none' | 'gzip' | 'zstd';
  /** The stored bytes, if another compressor made them (pigz, pzstd, several members). */
  blob?: Buffer;
  mediaType?: string;
}

export interface LayoutImage {
  layers: readonly LayoutLayer[];
  /** Laid over the default config: `{ config: { Entrypoint: ['/bin/x'] } }`. */
  config?: Record<string, unknown>;
  /** Annotation org.opencontainers.image.ref.name. */
  tag?: string;
  /** Of the config, and of the index entry; linux/amd64 by default. */
  platform?: LayoutPlatform;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: LayoutPlatform;
  annotations?: Record<string, string>;
}

export interface WrittenImage {
  manifest: Descriptor;
  config: Descriptor;
  layers: (Descriptor & { diffId: string })[];
}

/** Writes an image's blobs and names it in index.json, beside what the layout already holds. */
export function writeOciLayout(dir: string, image: LayoutImage): WrittenImage {
  const written = writeImageBlobs(dir, image);
  addToIndex(dir, written.manifest);
  return written;
}

/** Like writeOciLayout, but leaves index.json alone: for nested indexes. */
export function writeImageBlobs(dir: string, image: LayoutImage): WrittenImage {
  const platform = image.platform ?? { os: 'linux', architecture: 'amd64' };
  const layers = image.layers.map(layer => ({
    ...writeBlob(dir, layer.mediaType ?? layerType(layer), layer.blob ?? compressed(layer)),
    diffId: digestOf(layer.tar),
  }));
  const config = writeDocument(dir, mediaTypes.config, {
    ...platform,
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map(layer => layer.diffId) },
    history: layers.map(() => ({ created_by: 'test' })),
    ...image.config,
  });
  const manifest = writeDocument(dir, mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config,
    layers: layers.map(({ diffId: _, ...descriptor }) => descriptor),
  });
  manifest.platform = platform;
  if (image.tag !== undefined)
    manifest.annotations = { 'org.opencontainers.image.ref.name': image.tag };
  return { manifest, config, layers };
}

export function addToIndex(dir: string, ...descriptors: Descriptor[]): void {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const path = join(dir, 'index.json');
  const index = existsSync(path)
    ? JSON.parse(readFileSync(path, 'utf8'))
    : { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] };
  index.manifests.push(...descriptors);
  writeFileSync(path, JSON.stringify(index));
}

export function writeDocument(dir: string, mediaType: string, document: unknown): Descriptor {
  return writeBlob(dir, mediaType, Buffer.from(JSON.stringify(document)));
}

export function writeBlob(dir: string, mediaType: string, bytes: Buffer): Descriptor {
  const digest = digestOf(bytes);
  mkdirSync(join(dir, 'blobs', 'sha256'), { recursive: true });
  writeFileSync(blobPath(dir, digest), bytes);
  return { mediaType, digest, size: bytes.length };
}

export function blobPath(dir: string, digest: string): string {
  return join(dir, 'blobs', ...digest.split(':'));
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function layerType(layer: LayoutLayer): string {
  return layer.compression === 'none'
    ? mediaTypes.layer
    : `${mediaTypes.layer}+${layer.compression}`;
}

function compressed(layer: LayoutLayer): Buffer {
  if (layer.compression === 'gzip') return gzipSync(layer.tar);
  if (layer.compression === 'zstd') return zstdCompressSync(layer.tar);
  return layer.tar;
}
