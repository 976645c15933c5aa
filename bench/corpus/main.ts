/** `node bench/corpus/main.ts [--out DIR] NAME…`: builds images of the corpus and says what they are. */

import { parseArgs } from 'node:util';
import { runChecked } from '../../test/support/processes.ts';
import { buildImage, type CorpusImage, defaultCacheDir, isImageName } from './build.ts';
import { definitions } from './definitions.ts';

const usage = `Usage: node bench/corpus/main.ts [--out DIR] NAME…

Builds images from Debian packages, or takes them from ${defaultCacheDir()}.
With --out, also copies them into the OCI layout DIR, each tagged with its name.

Names: ${Object.keys(definitions).join(' ')}
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { out: { type: 'string' }, help: { type: 'boolean' } },
    allowPositionals: true,
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const names = positionals.filter(isImageName);
  if (names.length === 0 || names.length < positionals.length) {
    process.stderr.write(usage);
    return 2;
  }
  for (const name of names) {
    const image = await buildImage(name, undefined, step => process.stderr.write(`${step}\n`));
    if (values.out !== undefined) {
      await runChecked('skopeo', ['copy', '--quiet', image.source, `oci:${values.out}:${name}`]);
    }
    process.stdout.write(describe(image));
  }
  return 0;
}

function describe(image: CorpusImage): string {
  const lines = image.layers.map(layer => {
    const digest = layer.digest.slice(0, 'sha256:'.length + 12);
    return `  ${digest} ${megabytes(layer.sizeBytes)} ${megabytes(layer.contentBytes)} ${count(layer.entryCount)}\n`;
  });
  const sum = (of: 'sizeBytes' | 'contentBytes' | 'entryCount'): number =>
    image.layers.reduce((total, layer) => total + layer[of], 0);
  const totals = `${megabytes(sum('sizeBytes'))} ${megabytes(sum('contentBytes'))} ${count(sum('entryCount'))}`;
  const title = `${'layer'.padEnd(19)}     stored     content   entries`;
  const total = `  ${'all'.padEnd(19)} ${totals}\n`;
  return `${image.source}\n  ${title}\n${lines.join('')}${total}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`.padStart(10);
}

function count(value: number): string {
  return String(value).padStart(9);
}

process.exitCode = await main().catch((error: Error) => {
  process.stderr.write(`corpus: ${error.message}\n`);
  return 1;
});
