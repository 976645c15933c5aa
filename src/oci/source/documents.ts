/**
 * Image indexes, manifests and configs as values, in OCI's and Docker's dialect.
 * Sources: OCI image-spec 1.1 (descriptor.md, image-index.md, manifest.md, config.md, layer.md) and
 * Docker's "Image Manifest Version 2, Schema 2".
 */

import { type OciDigest, parseOciDigest } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import { indexManifestsMax, layersMax } from '../../base/limits.ts';
import type { SourcePlatform } from '../source-image.ts';
import {
  asArray,
  asObject,
  asString,
  isObject,
  type JsonObject,
  malformed,
  parseJsonObject,
  utf8Text,
} from './json.ts';
import { normalizePlatform } from './platform.ts';

export interface Descriptor {
  mediaType: string;
  digest: OciDigest;
  sizeBytes: number;
  /** Normalised; absent if the descriptor has none or not all of it. */
  platform?: SourcePlatform;
  annotations: JsonObject;
}

export interface Manifest {
  config: Descriptor;
  /** Bottom first. */
  layers: readonly Descriptor[];
}

export interface ImageConfig {
  /** The exact text of the blob. */
  text: string;
  /** `unknown/unknown` where the config does not say. */
  platform: SourcePlatform;
  diffIds: readonly OciDigest[];
}

export const indexTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
export const manifestTypes = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const configTypes = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];
const layerType =
  /^application\/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar(\+gzip|\+zstd)?|docker\.image\.rootfs\.(foreign\.)?diff\.tar([.+]gzip|[.+]zstd)?)$/;

/** What a descriptor's media type promises. Docker's schema 1 is refused, in `where`. */
export function documentKind(mediaType: string, where: string): 'index' | 'manifest' | 'other' {
  if (indexTypes.includes(mediaType)) return 'index';
  if (manifestTypes.includes(mediaType)) return 'manifest';
  if (/^application\/vnd\.docker\.distribution\.manifest\.v1\+/.test(mediaType)) {
    throw schemaOne(where);
  }
  return 'other';
}

/** BuildKit keeps provenance beside the images, under a platform that no machine has. */
export function isAttestation(descriptor: Descriptor): boolean {
  return (
    descriptor.annotations['vnd.docker.reference.type'] === 'attestation-manifest' ||
    (descriptor.platform?.os === 'unknown' && descriptor.platform.architecture === 'unknown')
  );
}

/** Every descriptor of an index, at most `max`. */
export function parseIndex(
  bytes: Uint8Array,
  where: string,
  max: number = indexManifestsMax,
): Descriptor[] {
  const document = parseVersioned(bytes, where, 'index');
  const manifests = asArray(document['manifests'], where, 'manifests');
  if (manifests.length > max) {
    throw new ImgstoreError(
      'LIMIT',
      `Cannot read ${where}: it names ${manifests.length} manifests, the limit is ${max}`,
      { hint: 'Copy the image that you want to a layout of its own.' },
    );
  }
  return manifests.map(each => parseDescriptor(each, where));
}

export function parseManifest(bytes: Uint8Array, where: string): Manifest {
  const document = parseVersioned(bytes, where, 'manifest');
  const config = parseDescriptor(document['config'], where);
  if (!configTypes.includes(config.mediaType)) {
    throw unsupported(where, `it is no container image: its config is of type ${config.mediaType}`);
  }
  const list = asArray(document['layers'], where, 'layers');
  checkLayerCount(list.length, where);
  const layers = list.map(each => parseDescriptor(each, where));
  for (const { mediaType } of layers) {
    if (layerType.test(mediaType)) continue;
    if (mediaType.includes('encrypted')) {
      throw unsupported(where, 'its layers are encrypted', 'Decrypt it with skopeo copy first.');
    }
    throw unsupported(where, `a layer is of type ${mediaType}`);
  }
  return { config, layers };
}

export function parseConfig(bytes: Uint8Array, where: string): ImageConfig {
  const text = utf8Text(bytes, where);
  const document = parseJsonObject(text, where);
  const rootfs = asObject(document['rootfs'], where, 'rootfs');
  const list = asArray(rootfs['diff_ids'] ?? [], where, 'rootfs.diff_ids');
  checkLayerCount(list.length, where);
  const diffIds = list.map(each => parseDigest(each, where, 'a diff_id'));
  const unknown = { os: 'unknown', architecture: 'unknown' };
  return { text, platform: parsePlatform(document) ?? unknown, diffIds };
}

export function checkLayerCount(count: number, where: string): void {
  if (count <= layersMax) return;
  throw new ImgstoreError(
    'LIMIT',
    `Cannot read ${where}: it has ${count} layers, the limit is ${layersMax}`,
    { hint: 'Squash the image.' },
  );
}

/**
 * One document must not be readable as two things: a manifest that also lists `manifests` was a
 * way to show one image to a scanner and another to a runtime (CVE-2021-41190).
 */
function parseVersioned(bytes: Uint8Array, where: string, kind: 'index' | 'manifest'): JsonObject {
  const document = parseJsonObject(utf8Text(bytes, where), where);
  const version = document['schemaVersion'];
  if (version === 1) throw schemaOne(where);
  if (version !== 2) throw malformed(where, 'its schemaVersion is not 2');
  const mediaType = document['mediaType'];
  const foreign = kind === 'index' ? ['config', 'layers'] : ['manifests'];
  if (
    foreign.some(name => document[name] !== undefined && document[name] !== null) ||
    (typeof mediaType === 'string' && documentKind(mediaType, where) !== kind)
  ) {
    throw malformed(where, `it is not clearly an image ${kind}`);
  }
  return document;
}

function parseDescriptor(value: unknown, where: string): Descriptor {
  const object = asObject(value, where, 'a descriptor');
  const sizeBytes = object['size'];
  if (typeof sizeBytes !== 'number' || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw malformed(where, 'the size in a descriptor is not a whole number');
  }
  const descriptor: Descriptor = {
    mediaType: asString(object['mediaType'], where, 'the mediaType of a descriptor'),
    digest: parseDigest(object['digest'], where, 'the digest of a descriptor'),
    sizeBytes,
    annotations: isObject(object['annotations']) ? object['annotations'] : {},
  };
  const platform = isObject(object['platform']) ? parsePlatform(object['platform']) : undefined;
  return platform === undefined ? descriptor : { ...descriptor, platform };
}

function parseDigest(value: unknown, where: string, name: string): OciDigest {
  const text = asString(value, where, name);
  try {
    return parseOciDigest(text);
  } catch (error) {
    const isOther = error instanceof ImgstoreError && error.code === 'UNSUPPORTED';
    if (isOther && !text.startsWith('sha256:')) throw unsupported(where, `${name} is no SHA-256`);
    throw malformed(where, `${name} is not of the form sha256:HEX`, error);
  }
}

function parsePlatform(object: JsonObject): SourcePlatform | undefined {
  const { os, architecture, variant } = object;
  if (typeof os !== 'string' || typeof architecture !== 'string') return undefined;
  if (os === '' || architecture === '') return undefined;
  const platform = { os, architecture };
  return normalizePlatform(
    typeof variant === 'string' && variant !== '' ? { ...platform, variant } : platform,
  );
}

function schemaOne(where: string): ImgstoreError {
  return unsupported(
    where,
    'it is in the old format of Docker, schema 1',
    'Convert it: skopeo copy --format oci SOURCE oci:DIR.',
  );
}

function unsupported(where: string, state: string, hint?: string): ImgstoreError {
  const options = { hint: hint ?? 'Push a container image with tar layers.' };
  return new ImgstoreError('UNSUPPORTED', `Cannot read ${where}: ${state}`, options);
}
