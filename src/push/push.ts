/**
 * The pipeline of a push, in commit order: chunks, then the recipe, then the name. Whatever stops
 * it in between, the name points at what it pointed at before.
 */

import { assert } from '../base/assert.ts';
import type { RecipeId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import {
  blockSizeBytes,
  chunkSizeMaxBytes,
  chunkSizeMinBytes,
  chunkSizeTargetBytes,
  KiB,
} from '../base/limits.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { RunChunker } from '../chunk/run-chunker.ts';
import { planDisk } from '../erofs/writer.ts';
import type { DedupSalt } from '../keys/keys.ts';
import { type FlattenProgress, flattenImage } from '../oci/layer/flatten.ts';
import type { SourceImage } from '../oci/source-image.ts';
import type { ImageName } from '../recipe/name.ts';
import { type Recipe, type RecipeDetails, type Segment, sealedSizes } from '../recipe/recipe.ts';
import type { Root } from '../store/root.ts';
import type { Tree } from '../tree/tree.ts';
import { regularFiles } from '../tree/walk.ts';
import { type ChunkTicket, ChunkUploader } from './chunk-uploader.ts';
import { ContentWriter } from './content-writer.ts';
import { DataRegion } from './data-region.ts';
import { knownChunks } from './known-chunks.ts';

/**
 * Sealed chunks and plain ones on their way at once: enough to keep every thread of the pool and
 * the store's disk busy, at most 2 MiB each.
 */
const chunksInFlightMax = 16;

/** Changes whenever the same image would give another disk or other chunks. */
export const pipelineId = [
  'erofs-1',
  `chunk-1:${[chunkSizeMinBytes, chunkSizeTargetBytes, chunkSizeMaxBytes].map(b => b / KiB).join('/')}`,
  'seal-1',
].join(' ');

export type PushProgress = (FlattenProgress & { phase: 'layers' }) | { phase: 'commit' };

export interface PushTarget {
  name: ImageName;
  root: Root;
  catalog: Catalog;
  salt: DedupSalt;
  /** Store every chunk again, whatever is there. */
  rewrite: boolean;
  now: () => Date;
  onProgress: (progress: PushProgress) => void;
  onWarning: (message: string) => void;
  signal?: AbortSignal | undefined;
}

export interface PushReport {
  recipe: RecipeId;
  outcome: 'created' | 'replaced' | 'unchanged';
  diskBytes: number;
  /** Sum of the sizes of the image's files. */
  contentBytes: number;
  /** Distinct chunks. */
  chunks: number;
  newChunks: number;
  /** Sealed bytes of the distinct chunks. */
  storedBytes: number;
  newStoredBytes: number;
}

export async function pushImage(image: SourceImage, target: PushTarget): Promise<PushReport> {
  const unchanged = await alreadyThere(image, target);
  if (unchanged !== undefined) return unchanged;
  const uploader = await uploaderFor(target);
  const region = new DataRegion();
  const writer = new ContentWriter(region, uploader);
  const tree = await flattenImage(image, writer, {
    onProgress: progress => target.onProgress({ phase: 'layers', ...progress }),
    onWarning: target.onWarning,
    ...(target.signal === undefined ? {} : { signal: target.signal }),
  });
  target.onProgress({ phase: 'commit' });
  const layout = region.layout(contentsOf(tree));
  const plan = planDisk(tree, layout.placementOf, layout.sizeBytes);
  const metadata = await chunkMetadata(plan.metadata(), uploader);
  await uploader.finish();
  const details: RecipeDetails = {
    kind: 'oci',
    manifestDigest: image.manifestDigest,
    platform: { ...image.platform },
    configText: image.configText,
    inodeCount: plan.inodeCount,
    contentBytes: plan.contentBytes,
    pipeline: pipelineId,
    saltId: target.salt.id,
  };
  const recipe: Recipe = {
    diskSizeBytes: plan.diskSizeBytes,
    metadataSizeBytes: plan.metadataSizeBytes,
    segments: [...metadata, ...layout.chunks].map(segmentOf),
    details,
  };
  return commit(recipe, uploader, target);
}

/** Stores the recipe and points the name at it. */
export async function commit(
  recipe: Recipe,
  uploader: ChunkUploader,
  { catalog, name, now, signal }: PushTarget,
): Promise<PushReport> {
  signal?.throwIfAborted();
  const { recipeId, changed } = await catalog.commit(name, recipe, { now: now() });
  return { recipe: recipeId, outcome: changed, ...sizes(recipe), ...newSizes(uploader) };
}

export async function uploaderFor(target: PushTarget): Promise<ChunkUploader> {
  const { root, catalog, salt, rewrite, signal } = target;
  const known = rewrite
    ? new Map()
    : await knownChunks(catalog, target.name, { saltId: salt.id, signal });
  const chunks = root.chunks;
  return new ChunkUploader({ chunks, salt: salt.bytes, known, chunksInFlightMax, rewrite, signal });
}

/** The same manifest under the same name, made by the same rules: nothing to do. */
async function alreadyThere(
  image: SourceImage,
  { name, catalog, salt, rewrite }: PushTarget,
): Promise<PushReport | undefined> {
  if (rewrite) return undefined;
  const resolved = await catalog.resolve(name).catch(unlessDamaged);
  if (resolved === undefined) return undefined;
  const { details } = resolved.recipe;
  const same =
    details.manifestDigest === image.manifestDigest &&
    details.configText === image.configText &&
    details.pipeline === pipelineId &&
    details.saltId === salt.id;
  if (!same) return undefined;
  const none = { newChunks: 0, newStoredBytes: 0 };
  return { recipe: resolved.recipeId, outcome: 'unchanged', ...sizes(resolved.recipe), ...none };
}

/** A name whose record or recipe is damaged is mended by pushing it again. */
function unlessDamaged(error: unknown): undefined {
  const damaged =
    error instanceof ImgstoreError && (error.code === 'CORRUPT' || error.code === 'NOT_FOUND');
  if (!damaged) throw error;
}

function contentsOf(tree: Tree) {
  return regularFiles(tree).map(file => file.content);
}

async function chunkMetadata(
  metadata: Iterable<Buffer>,
  uploader: ChunkUploader,
): Promise<ChunkTicket[]> {
  const tickets: ChunkTicket[] = [];
  let wait: Promise<void> | undefined;
  const chunker = new RunChunker(bytes => {
    const added = uploader.add(bytes);
    tickets.push(added.ticket);
    wait = added.wait;
    return undefined;
  });
  for (const bytes of metadata) {
    chunker.write(bytes);
    await wait;
  }
  chunker.end({ alignBytes: blockSizeBytes });
  return tickets;
}

export function segmentOf(ticket: ChunkTicket): Segment {
  assert(ticket.stored !== undefined, 'every chunk is stored before the recipe is made');
  return { kind: 'chunk', ...ticket.stored };
}

function sizes(recipe: Recipe) {
  const distinct = sealedSizes(recipe);
  let storedBytes = 0;
  for (const sizeBytes of distinct.values()) storedBytes += sizeBytes;
  return {
    diskBytes: recipe.diskSizeBytes,
    contentBytes: recipe.details.contentBytes ?? recipe.diskSizeBytes,
    chunks: distinct.size,
    storedBytes,
  };
}

function newSizes({ newChunks, newStoredBytes }: ChunkUploader) {
  return { newChunks, newStoredBytes };
}
