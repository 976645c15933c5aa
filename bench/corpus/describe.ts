/** Images of the corpus as tables. */

import type { CorpusImage } from './build.ts';
import type { LayerSummary } from './layout.ts';
import type { Tried } from './try.ts';

/** Its layers, one a line. */
export function describeImage({ source, layers }: CorpusImage): string {
  const title = `${'layer'.padEnd(19)}     stored     content   entries`;
  const lines = layers.map(layer => {
    const digest = layer.digest.slice(0, 'sha256:'.length + 12);
    return `  ${digest} ${sizes([layer])}\n`;
  });
  return `${source}\n  ${title}\n${lines.join('')}  ${'all'.padEnd(19)} ${sizes(layers)}\n`;
}

export interface Described {
  image: CorpusImage;
  tried?: Tried | undefined;
}

/** Images, one a line, what of each no image above it in the table has, and its hello if tried. */
export function describeImages(images: readonly Described[]): string {
  const known = new Map<string, LayerSummary>();
  const lines = images.map(({ image: { name, layers }, tried }) => {
    const own = layers.filter(({ digest }) => !known.has(digest));
    for (const layer of own) known.set(layer.digest, layer);
    const parts = [name.padEnd(18), String(layers.length).padStart(6), sizes(layers)];
    const hello = tried && [milliseconds(tried.coldMs), milliseconds(tried.nextMs)];
    return `${[...parts, megabytes(sum(own, 'sizeBytes')), ...(hello ?? [])].join(' ')}\n`;
  });
  const hello = images.some(({ tried }) => tried !== undefined) ? '      hello    next one' : '';
  const title = `\n${'image'.padEnd(18)} layers     stored     content   entries new stored${hello}\n`;
  const all = [...known.values()];
  const total = ['all layers once'.padEnd(18), String(all.length).padStart(6), sizes(all)];
  return `${title}${lines.join('')}${total.join(' ')}\n`;
}

export function describeTried({ coldMs, nextMs, stats }: Tried): string {
  return `  hello after ${coldMs.toFixed(0)} ms, the next after ${nextMs.toFixed(0)} ms. ${stats}\n`;
}

/** Bytes as stored, of files, and entries. */
function sizes(layers: readonly LayerSummary[]): string {
  const entries = String(sum(layers, 'entryCount')).padStart(9);
  const [stored, content] = [sum(layers, 'sizeBytes'), sum(layers, 'contentBytes')];
  return `${megabytes(stored)} ${megabytes(content)} ${entries}`;
}

function sum(
  layers: readonly LayerSummary[],
  of: 'sizeBytes' | 'contentBytes' | 'entryCount',
): number {
  return layers.reduce((total, layer) => total + layer[of], 0);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`.padStart(10);
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(0)} ms`.padStart(10);
}
