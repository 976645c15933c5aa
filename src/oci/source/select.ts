/**
 * From the entries of an index to one manifest: nested indexes are walked, attestations skipped, and
 * the platform chosen that the machine, or the user, prefers.
 *
 * Every document is visited once and the walk is bounded in depth and number, whatever the indexes
 * say of each other.
 */

import type { OciDigest } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import { indexDepthMax, indexManifestsMax, manifestSizeMaxBytes } from '../../base/limits.ts';
import type { SourcePlatform } from '../source-image.ts';
import { type ChosenManifest, readConfig } from './blob-image.ts';
import {
  type BlobName,
  type BlobSource,
  blobLabel,
  type ReadConfigOptions,
  readDocument,
} from './blob-source.ts';
import {
  type Descriptor,
  documentKind,
  isAttestation,
  type Manifest,
  parseIndex,
  parseManifest,
} from './documents.ts';
import { formatPlatform, type PlatformWish, platformRank } from './platform.ts';

export interface SelectOptions extends ReadConfigOptions {
  wish: PlatformWish;
}

/** NOT_FOUND if no manifest below the entries is for a wanted platform. */
export async function selectManifest(
  source: BlobSource,
  entries: readonly Descriptor[],
  options: SelectOptions,
): Promise<ChosenManifest> {
  const found = await manifestsBelow(source, entries, options);
  const best =
    found.length === 1 && !options.wish.explicit ? found[0]! : await bestOf(source, found, options);
  return {
    digest: best.digest,
    manifest: await readManifest(source, best, options),
    platform: best.platform,
  };
}

/** NOT_FOUND, listing what is there, unless the wish takes one; the index of the best otherwise. */
export function bestPlatform(
  reference: string,
  offered: readonly SourcePlatform[],
  wish: PlatformWish,
): number {
  let best: { index: number; rank: number } | undefined;
  for (const [index, platform] of offered.entries()) {
    const rank = platformRank(wish, platform);
    if (rank !== undefined && (best === undefined || rank < best.rank)) best = { index, rank };
  }
  if (best !== undefined) return best.index;
  const wanted = formatPlatform(wish.ranked[0]!);
  throw new ImgstoreError('NOT_FOUND', `Cannot open ${reference}: it is not there for ${wanted}`, {
    hint:
      offered.length === 0
        ? 'None of its manifests is there; copy it again.'
        : `It has ${listed(offered.map(formatPlatform))}; choose with --platform.`,
  });
}

/**
 * The entries of an index.json that are the image which the user means: those of that name, or of
 * the only one. Several entries are one image if they are for different platforms.
 */
export function entriesOfImage(
  reference: string,
  entries: readonly Descriptor[],
  naming: { nameOf(entry: Descriptor): string | undefined; wanted: WantedName | undefined },
): readonly Descriptor[] {
  const { nameOf, wanted } = naming;
  const images = entries.filter(entry => !isAttestation(entry));
  const named = wanted === undefined ? images : images.filter(wanted.matches);
  if (named.length === 0 && wanted !== undefined) {
    throw absentName(reference, wanted.text, images.map(nameOf));
  }
  const [first, ...others] = [...new Map(named.map(entry => [entry.digest, entry])).values()];
  if (first === undefined) return [];
  const platforms = new Set(
    [first, ...others].map(({ platform }) => platform && formatPlatform(platform)),
  );
  const isOne =
    others.every(other => nameOf(other) === nameOf(first)) &&
    !platforms.has(undefined) &&
    platforms.size === others.length + 1;
  if (others.length === 0 || isOne) return [first, ...others];
  throw severalImages(reference, named.map(nameOf));
}

export interface WantedName {
  text: string;
  matches(entry: Descriptor): boolean;
}

type Names = readonly (string | undefined)[];

export function absentName(reference: string, wanted: string, names: Names): ImgstoreError {
  return new ImgstoreError('NOT_FOUND', `Cannot open ${reference}: it has no image ${wanted}`, {
    hint:
      names.length === 0 ? 'It is empty.' : `It has ${listed(names.map(n => n ?? '(no name)'))}.`,
  });
}

export function severalImages(reference: string, names: Names): ImgstoreError {
  return new ImgstoreError('USAGE', `Cannot open ${reference}: it holds several images`, {
    hint: `Add a colon and one of: ${listed(names.map(n => n ?? '(no name)'))}.`,
  });
}

/** `a, b and 3 more`, for messages: each of them once. */
export function listed(names: readonly string[]): string {
  const shownMax = 20;
  const distinct = [...new Set(names)];
  const shown = distinct.slice(0, shownMax).map(name => name.slice(0, 200));
  const more = distinct.length - shown.length;
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ');
}

/** `docker save` keeps an index whole and only the manifests that its machine has. */
async function bestOf(
  source: BlobSource,
  found: readonly Descriptor[],
  options: SelectOptions,
): Promise<Descriptor> {
  const offered: { manifest: Descriptor; platform: SourcePlatform }[] = [];
  for (const manifest of found) {
    if (found.length > 1 && (await source.sizeOf(manifest.digest)) === undefined) continue;
    const platform = manifest.platform ?? (await platformOf(source, manifest, options));
    offered.push({ manifest, platform });
  }
  const platforms = offered.map(({ platform }) => platform);
  return offered[bestPlatform(source.reference, platforms, options.wish)]!.manifest;
}

async function platformOf(
  source: BlobSource,
  descriptor: Descriptor,
  options: SelectOptions,
): Promise<SourcePlatform> {
  const manifest = await readManifest(source, descriptor, options);
  return (await readConfig(source, manifest.config, options)).platform;
}

async function readManifest(
  source: BlobSource,
  { digest, sizeBytes }: Descriptor,
  { signal }: SelectOptions,
): Promise<Manifest> {
  const blob: BlobName = { kind: 'manifest', digest, sizeBytes };
  const bytes = await readDocument(source, blob, { signal, sizeMaxBytes: manifestSizeMaxBytes });
  return parseManifest(bytes, blobLabel(source, blob));
}

async function manifestsBelow(
  source: BlobSource,
  entries: readonly Descriptor[],
  { signal }: SelectOptions,
): Promise<Descriptor[]> {
  const found: Descriptor[] = [];
  const otherTypes: string[] = [];
  const seen = new Set<OciDigest>();
  let level = entries;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > indexDepthMax) throw tooMany(source, `indexes nested over ${indexDepthMax} deep`);
    const below: Descriptor[] = [];
    for (const entry of level) {
      if (seen.has(entry.digest) || isAttestation(entry)) continue;
      seen.add(entry.digest);
      if (seen.size + below.length > indexManifestsMax) {
        throw tooMany(source, `over ${indexManifestsMax} manifests`);
      }
      const kind = documentKind(entry.mediaType, source.reference);
      if (kind === 'manifest') found.push(entry);
      else if (kind === 'index') below.push(...(await readIndex(source, entry, signal)));
      else otherTypes.push(entry.mediaType);
    }
    level = below;
  }
  if (found.length > 0) return found;
  const state = otherTypes.length === 0 ? 'its index is empty' : `it holds ${listed(otherTypes)}`;
  throw new ImgstoreError(
    'UNSUPPORTED',
    `Cannot open ${source.reference}: it holds no container image: ${state}`,
    { hint: 'Name an image that has a manifest of OCI or of Docker.' },
  );
}

async function readIndex(
  source: BlobSource,
  { digest, sizeBytes }: Descriptor,
  signal: AbortSignal | undefined,
): Promise<Descriptor[]> {
  const blob: BlobName = { kind: 'index', digest, sizeBytes };
  const bytes = await readDocument(source, blob, { signal, sizeMaxBytes: manifestSizeMaxBytes });
  return parseIndex(bytes, blobLabel(source, blob));
}

function tooMany(source: BlobSource, what: string): ImgstoreError {
  return new ImgstoreError('LIMIT', `Cannot open ${source.reference}: it has ${what}`, {
    hint: 'Copy the image that you want to a layout of its own.',
  });
}
