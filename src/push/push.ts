/** The push of an image: layers → tree and chunks → disk → recipe → name. */

import { flattenImage } from '../oci/layer/flatten.ts';
import type { SourceImage } from '../oci/source-image.ts';
import type { Recipe, RecipeDetails } from '../recipe/recipe.ts';
import { assembleDisk } from './assemble.ts';
import type { ChunkUploader } from './chunk-uploader.ts';
import {
  type ConvertTarget,
  imageNow,
  type PushReport,
  PushSession,
  type PushTarget,
  reportOf,
  saltDetails,
  signalOf,
} from './commit.ts';
import { ContentWriter } from './content-writer.ts';
import { DataRegion } from './data-region.ts';
import { PushMemos, type Remembering } from './memo/layer-memos.ts';
import { PackMaker } from './memo/pack-maker.ts';
import { pipelineId } from './pipeline.ts';

export { imageNow, type PushProgress, type PushReport, type PushTarget } from './commit.ts';

/**
 * Errors: of the source and its layers, LIMIT and UNSUPPORTED for what no disk can hold, KEY if the
 * name is another owner's, those of the store, and the reason of the signal.
 */
export async function pushImage(image: SourceImage, target: PushTarget): Promise<PushReport> {
  const before = await imageNow(target);
  if (before !== undefined && !target.rewrite && isMadeOf(before.recipe.details, image, target)) {
    return reportOf(before, 'unchanged', { newChunks: 0, newStoredBytes: 0 });
  }
  await using session = await PushSession.open(target);
  const { memory, rewrite } = target;
  const maker = new PackMaker(session.root.chunks, target);
  const remembering = memory && { memory, rewrite, maker };
  const recipe = await convertImage(image, session.uploader, target, remembering);
  return await session.commit(recipe, target);
}

/**
 * The recipe of an image. When it resolves, the uploader has stored every chunk. Layers that are
 * remembered are not read, as far as the uploader knows their chunks. Errors: as pushImage.
 */
export async function convertImage(
  image: SourceImage,
  uploader: ChunkUploader,
  target: ConvertTarget,
  remembering?: Remembering,
): Promise<Recipe> {
  const region = new DataRegion();
  const writer = new ContentWriter(region, uploader);
  const tree = await flattenImage(image, writer, {
    onProgress: progress => target.onProgress({ phase: 'layers', ...progress }),
    onWarning: target.onWarning,
    memos: remembering && new PushMemos({ ...target, ...remembering, region, writer, uploader }),
    ...signalOf(target),
  });
  target.onProgress({ phase: 'commit' });
  const { inodeCount, contentBytes, ...disk } = await assembleDisk(tree, region, uploader);
  const details: RecipeDetails = {
    kind: 'oci',
    manifestDigest: image.manifestDigest,
    platform: { ...image.platform },
    configText: image.configText,
    inodeCount,
    contentBytes,
    pipeline: pipelineId,
    ...saltDetails(target.salt),
  };
  return { ...disk, details };
}

/** The same manifest, by the same rules: a push would come to the same recipe. */
function isMadeOf(details: RecipeDetails, image: SourceImage, { salt }: PushTarget): boolean {
  return (
    details.manifestDigest === image.manifestDigest &&
    details.configText === image.configText &&
    details.pipeline === pipelineId &&
    details.saltId === salt.id
  );
}
