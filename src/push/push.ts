/** The push of an image: layers → tree and chunks → disk → recipe → name. */

import { blockSizeBytes } from '../base/limits.ts';
import { RunChunker } from '../chunk/run-chunker.ts';
import { planDisk } from '../erofs/writer.ts';
import { flattenImage } from '../oci/layer/flatten.ts';
import type { SourceImage } from '../oci/source-image.ts';
import type { Recipe, RecipeDetails } from '../recipe/recipe.ts';
import type { Tree } from '../tree/tree.ts';
import { regularFiles } from '../tree/walk.ts';
import type { ChunkTicket, ChunkUploader } from './chunk-uploader.ts';
import {
  commit,
  imageNow,
  openUploader,
  type PushReport,
  type PushTarget,
  reportOf,
  segmentOf,
  signalOf,
} from './commit.ts';
import { ContentWriter } from './content-writer.ts';
import { DataRegion } from './data-region.ts';
import { pipelineId } from './pipeline.ts';

export type { PushProgress, PushReport, PushTarget } from './commit.ts';

/**
 * Errors: of the source and its layers, LIMIT and UNSUPPORTED for what no disk can hold, KEY if the
 * name is another owner's, those of the store, and the reason of the signal.
 */
export async function pushImage(image: SourceImage, target: PushTarget): Promise<PushReport> {
  const before = await imageNow(target);
  if (before !== undefined && !target.rewrite && isMadeOf(before.recipe.details, image, target)) {
    return reportOf(before, 'unchanged', { newChunks: 0, newStoredBytes: 0 });
  }
  await using uploader = await openUploader(target);
  const region = new DataRegion();
  const tree = await flattenImage(image, new ContentWriter(region, uploader), {
    onProgress: progress => target.onProgress({ phase: 'layers', ...progress }),
    onWarning: target.onWarning,
    ...signalOf(target),
  });
  target.onProgress({ phase: 'commit' });
  const layout = region.layout(contentsOf(tree));
  const plan = planDisk(tree, layout.placementOf, layout.sizeBytes);
  const metadata = await chunkMetadata(plan.metadata(), uploader);
  await uploader.finish();
  const recipe: Recipe = {
    diskSizeBytes: plan.diskSizeBytes,
    metadataSizeBytes: plan.metadataSizeBytes,
    segments: [...metadata, ...layout.chunks].map(segmentOf),
    details: {
      kind: 'oci',
      manifestDigest: image.manifestDigest,
      platform: { ...image.platform },
      configText: image.configText,
      inodeCount: plan.inodeCount,
      contentBytes: plan.contentBytes,
      pipeline: pipelineId,
      saltId: target.salt.id,
    },
  };
  return commit(recipe, uploader, target);
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

function contentsOf(tree: Tree) {
  return regularFiles(tree).map(file => file.content);
}

async function chunkMetadata(
  metadata: Iterable<Buffer>,
  uploader: ChunkUploader,
): Promise<ChunkTicket[]> {
  const tickets: ChunkTicket[] = [];
  const chunker = new RunChunker(bytes => {
    tickets.push(uploader.add(bytes));
    return undefined;
  });
  for (const bytes of metadata) {
    chunker.write(bytes);
    await uploader.backlog;
  }
  chunker.end({ alignBytes: blockSizeBytes });
  return tickets;
}
