/** A tree and the data region that holds its contents → the disk: metadata, cut and stored, then data. */

import { blockSizeBytes } from '../base/limits.ts';
import { RunChunker } from '../chunk/run-chunker.ts';
import { planDisk } from '../erofs/writer.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { FileContent, Tree } from '../tree/tree.ts';
import { regularFiles } from '../tree/walk.ts';
import type { ChunkSink, ChunkTicket, ChunkUploader } from './chunk-uploader.ts';
import { segmentOf } from './commit.ts';
import type { DataRegion } from './data-region.ts';

export interface AssembledDisk extends Omit<Recipe, 'details'> {
  inodeCount: number;
  contentBytes: number;
}

/** Every content of the tree is in the region. When it resolves, every chunk is stored. */
export async function assembleDisk(
  tree: Tree,
  region: DataRegion,
  uploader: ChunkUploader,
): Promise<AssembledDisk> {
  const layout = region.layout(contentsOf(tree));
  const plan = planDisk(tree, layout.placementOf, layout.sizeBytes);
  const metadata = await chunkMetadata(plan.metadata(), uploader);
  await uploader.finish();
  const { diskSizeBytes, metadataSizeBytes, inodeCount, contentBytes } = plan;
  const segments = [...metadata, ...layout.chunks].map(segmentOf);
  return { diskSizeBytes, metadataSizeBytes, inodeCount, contentBytes, segments };
}

function contentsOf(tree: Tree): Iterable<FileContent> {
  return regularFiles(tree).map(file => file.content);
}

async function chunkMetadata(metadata: Iterable<Buffer>, sink: ChunkSink): Promise<ChunkTicket[]> {
  const tickets: ChunkTicket[] = [];
  const chunker = new RunChunker(bytes => {
    tickets.push(sink.add(bytes));
    return undefined;
  });
  for (const bytes of metadata) {
    chunker.write(bytes);
    await sink.backlog;
  }
  chunker.end({ alignBytes: blockSizeBytes });
  return tickets;
}
