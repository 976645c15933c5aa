/**
 * Mends an image from the source that it was made of: what is missing or damaged is made again by the
 * same pipeline and put in its place; what is whole is not touched.
 *
 * Nothing is written before the source is known to be the image's own. For an image its manifest's
 * digest says so. For a raw disk, and where the recipe is lost, the source is first converted without
 * storing anything, and must come to what the recipe lists, or to the recipe's id.
 */

import type { ChunkId, RecipeId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import type { OwnerKey } from '../keys/keys.ts';
import type { SourceImage } from '../oci/source-image.ts';
import { formatImageName } from '../recipe/name.ts';
import type { Recipe, RecipeDetails } from '../recipe/recipe.ts';
import { encodeRecipe } from '../recipe/sealed-recipe.ts';
import { SealerPool } from '../seal/sealer-pool.ts';
import type { RootId } from '../store/format.ts';
import type { Root } from '../store/roots.ts';
import { ChunkUploader, type StoredChunk } from './chunk-uploader.ts';
import { chunksInFlightMax, PushSession, type PushTarget, signalOf } from './commit.ts';
import { pipelineId } from './pipeline.ts';
import { convertImage } from './push.ts';
import { convertDisk } from './push-disk.ts';

export type RepairSource =
  | { kind: 'oci'; reference: string; image: SourceImage }
  | { kind: 'disk'; reference: string; path: string };

/** What a name means, as far as it can be read. */
export interface Broken {
  recipeId: RecipeId;
  /** Undefined if it is lost or damaged. */
  recipe: { recipe: Recipe; root: RootId } | undefined;
}

export interface RepairTarget extends Omit<PushTarget, 'rewrite' | 'known'> {
  /** The one that seals what is pushed. */
  ownerKey: OwnerKey;
  /** Which chunks of the recipe are not whole in the root. */
  brokenIn: (recipe: Recipe, root: Root) => Promise<ReadonlySet<ChunkId>>;
}

export interface RepairReport {
  recipe: Recipe;
  recipeId: RecipeId;
  /** Where all of it is now. */
  root: Root;
  /** Chunks that were put in their place, and their sealed bytes. */
  putChunks: number;
  putBytes: number;
  /** The recipe was written: it was broken, is another, or was not in the active root. */
  putRecipe: boolean;
}

/**
 * Ends with all of the image in the active root. Another version of zstd may make other sealed chunks
 * of the same bytes: then the name gets a recipe of another id.
 *
 * Errors: USAGE for a source that is another image, UNSUPPORTED if this version would make another
 * disk of it; then nothing was written. BUSY if the name means another recipe by then. Else as
 * pushImage.
 */
export async function repairImage(
  source: RepairSource,
  broken: Broken,
  target: RepairTarget,
): Promise<RepairReport> {
  const what = `Cannot repair ${formatImageName(target.name)}`;
  const recipe = broken.recipe?.recipe ?? (await rebuild(source, broken, target));
  if (broken.recipe !== undefined) await checkSource(source, recipe, target, what);
  await using session = await PushSession.open({
    ...target,
    rewrite: true,
    known: async root => chunksOf(recipe, await target.brokenIn(recipe, root)),
  });
  const made = await convert(source, session.uploader, target);
  const { root } = session;
  const { newChunks: putChunks, newStoredBytes: putBytes } = session.uploader;
  const mended = { ...made, details: recipe.details };
  const putRecipe = broken.recipe?.root !== root.id || !isSame(mended, recipe, target);
  let { recipeId } = broken;
  if (putRecipe) {
    await checkName(broken, target, what);
    recipeId = (await session.commit(mended, { ...target, rewrite: true })).recipe;
  } else await session.check({ hasReplaced: true });
  return { recipe: mended, recipeId, root, putChunks, putBytes, putRecipe };
}

/** A push meanwhile has the last word: a repair gives a name no meaning that it did not have. */
async function checkName({ recipeId }: Broken, target: RepairTarget, what: string): Promise<void> {
  const record = await target.catalog.record(target.name, signalOf(target));
  if (record?.recipeId === recipeId) return;
  throw new ImgstoreError('BUSY', `${what}: it was pushed again or removed meanwhile`, {
    hint: 'Run imgstore verify again.',
  });
}

function convert(
  source: RepairSource,
  uploader: ChunkUploader,
  target: RepairTarget,
): Promise<Recipe> {
  return source.kind === 'oci'
    ? convertImage(source.image, uploader, target)
    : convertDisk(source.path, uploader, target);
}

/** The recipe that a name means and that is lost, made again; nothing is written. */
async function rebuild(
  source: RepairSource,
  { recipeId }: Broken,
  target: RepairTarget,
): Promise<Recipe> {
  await using uploader = dryUploader(target, new Map(), async () => 'exists');
  const recipe = await convert(source, uploader, target);
  const { id } = encodeRecipe(recipe, target.ownerKey);
  if (id === recipeId) return recipe;
  throw new ImgstoreError(
    'USAGE',
    `Cannot repair ${formatImageName(target.name)}: its recipe ${recipeId} is lost, and ` +
      `${source.reference} makes recipe ${id}`,
    {
      hint:
        'It is another image, or was pushed by another version of imgstore or under other keys. ' +
        'Push it again if it is the right one.',
    },
  );
}

async function checkSource(
  source: RepairSource,
  recipe: Recipe,
  target: RepairTarget,
  what: string,
): Promise<void> {
  const { kind, manifestDigest, pipeline } = recipe.details;
  const other = (state: string) =>
    new ImgstoreError('USAGE', `${what}: ${state}`, {
      hint: 'Name the source it was pushed from.',
    });
  if (kind !== source.kind) {
    throw other(`it is ${titles[kind]}, and ${source.reference} is ${titles[source.kind]}`);
  }
  if (source.kind === 'oci' && source.image.manifestDigest !== manifestDigest) {
    const { reference, image } = source;
    throw other(`it is of manifest ${manifestDigest}, and ${reference} is ${image.manifestDigest}`);
  }
  if (pipeline !== pipelineId) {
    throw new ImgstoreError(
      'UNSUPPORTED',
      `${what}: it was made by the rules "${pipeline}", and this imgstore has "${pipelineId}"`,
      { hint: 'Push the image again.' },
    );
  }
  if (source.kind === 'oci') return;
  const otherData = other(`${source.reference} holds other data than what was pushed`);
  await using uploader = dryUploader(target, chunksOf(recipe, new Set()), () =>
    Promise.reject(otherData),
  );
  const made = await convert(source, uploader, target);
  if (!isSame({ ...made, details: recipe.details }, recipe, target)) throw otherData;
}

const titles: Readonly<Record<RecipeDetails['kind'], string>> = {
  oci: 'an image',
  disk: 'a raw disk',
};

/** Stores nothing: what is not known goes to `put`. */
function dryUploader(
  { salt, signal }: RepairTarget,
  known: ReadonlyMap<string, StoredChunk>,
  put: () => Promise<'exists'>,
): ChunkUploader {
  const chunks = { put, get: async () => undefined };
  return new ChunkUploader({
    chunks,
    sealer: new SealerPool(),
    salt: salt.bytes,
    known,
    chunksInFlightMax,
    rewrite: false,
    signal,
  });
}

/** By key in hexadecimal. */
function chunksOf(recipe: Recipe, without: ReadonlySet<ChunkId>): Map<string, StoredChunk> {
  const chunks = new Map<string, StoredChunk>();
  for (const segment of recipe.segments) {
    if (segment.kind !== 'chunk' || without.has(segment.id)) continue;
    chunks.set(segment.key.toString('hex'), segment);
  }
  return chunks;
}

function isSame(a: Recipe, b: Recipe, { ownerKey }: RepairTarget): boolean {
  return encodeRecipe(a, ownerKey).id === encodeRecipe(b, ownerKey).id;
}
