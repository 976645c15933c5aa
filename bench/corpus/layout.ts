/** What an OCI layout says about its one image, and what its layers hold. */

import { createReadStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';

export interface LayerSummary {
  digest: string;
  /** As stored. */
  sizeBytes: number;
  entryCount: number;
  /** Sum of the sizes of its regular files. */
  contentBytes: number;
}

interface Descriptor {
  digest: string;
  size: number;
}

/** Layers that are `known` already are not read again. */
export async function summarizeLayers(
  layoutDir: string,
  known: readonly LayerSummary[],
): Promise<LayerSummary[]> {
  const index = readJson(join(layoutDir, 'index.json')) as { manifests: Descriptor[] };
  const [image, ...others] = index.manifests;
  if (image === undefined || others.length > 0) throw new Error(`${layoutDir}: not one image`);
  const manifest = readJson(blobPath(layoutDir, image)) as { layers: Descriptor[] };
  const summaries = [];
  for (const layer of manifest.layers) {
    const summary = known.find(({ digest }) => digest === layer.digest);
    summaries.push(summary ?? (await summarizeLayer(layoutDir, layer)));
  }
  return summaries;
}

async function summarizeLayer(layoutDir: string, layer: Descriptor): Promise<LayerSummary> {
  const summary = { digest: layer.digest, sizeBytes: layer.size, entryCount: 0, contentBytes: 0 };
  const entries = extract();
  entries.on('entry', (header, stream, next) => {
    summary.entryCount++;
    if (header.type === 'file') summary.contentBytes += header.size ?? 0;
    stream.on('end', next);
    stream.resume();
  });
  await pipeline(createReadStream(blobPath(layoutDir, layer)), createGunzip(), entries);
  return summary;
}

function blobPath(layoutDir: string, { digest }: Descriptor): string {
  return join(layoutDir, 'blobs', ...digest.split(':'));
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}
