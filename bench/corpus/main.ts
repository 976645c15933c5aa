/** `node bench/corpus/main.ts NAME…`: builds images of the corpus and says what they are. */

import { parseArgs } from 'node:util';
import { runChecked } from '../../test/support/processes.ts';
import { CorpusBuilder, defaultCacheDir } from './build.ts';
import {
  definitions,
  imageNames,
  imageOf,
  isVersionName,
  type VersionName,
  versionDefinition,
  versionsOf,
} from './definitions.ts';
import { type Described, describeImage, describeImages, describeTried } from './describe.ts';
import { Trials } from './try.ts';

const usage = `Usage: node bench/corpus/main.ts [--out DIR] [--hello] NAME[:VERSION]…
       node bench/corpus/main.ts --list

Builds images from Debian packages, or takes them from ${defaultCacheDir()}.
NAME is its current version, NAME:all are all of its versions, and all is the whole corpus.

  --out DIR  also copies them into the OCI layout DIR, each tagged NAME or NAME-VERSION
  --hello    also starts each once with imgstore, until it has done its first real work
  --list     says what the versions stand for

Names: ${imageNames.join(' ')}
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      out: { type: 'string' },
      hello: { type: 'boolean' },
      list: { type: 'boolean' },
      help: { type: 'boolean' },
    },
    allowPositionals: true,
  });
  if (values.help || values.list) {
    process.stdout.write(values.help ? usage : listing());
    return 0;
  }
  const names = positionals.map(named);
  if (names.length === 0 || names.includes(undefined)) {
    process.stderr.write(usage);
    return 2;
  }
  const images: Described[] = [];
  let failures = 0;
  const report = (step: string): void => {
    process.stderr.write(`${step}\n`);
  };
  await using trials = values.hello ? new Trials() : undefined;
  await using builder = new CorpusBuilder(defaultCacheDir(), report);
  for (const name of new Set(names.flatMap(group => group ?? []))) {
    const image = await builder.build(name);
    if (values.out !== undefined) {
      await runChecked('skopeo', [
        'copy',
        '--quiet',
        image.source,
        `oci:${values.out}:${image.tag}`,
      ]);
    }
    process.stdout.write(describeImage(image));
    const tried = await trials?.run(image).catch((error: Error) => {
      failures++;
      process.stderr.write(`${name}: its hello failed: ${error.message}\n`);
      return undefined;
    });
    if (tried !== undefined) process.stdout.write(describeTried(tried));
    images.push({ image, tried });
  }
  if (images.length > 1) process.stdout.write(describeImages(images));
  return failures === 0 ? 0 : 1;
}

/** What a name on the command line stands for; undefined if for nothing. */
function named(name: string): VersionName[] | undefined {
  if (name === 'all') return imageNames.flatMap(versionsOf);
  if (isVersionName(name)) return [name];
  const [image = '', version] = name.split(':');
  return version === 'all' && isVersionName(image) ? versionsOf(imageOf(image)) : undefined;
}

function listing(): string {
  const lines = imageNames.flatMap(versionsOf).map(name => {
    const { stands = `current; hello: ${helloOf(name)}` } = versionDefinition(name);
    return `${name.padEnd(20)} ${stands}\n`;
  });
  return lines.join('');
}

function helloOf(name: VersionName): string {
  const { done } = definitions[imageOf(name)].hello;
  switch (done.by) {
    case 'line':
      return `prints "${done.text}"`;
    case 'http':
      return `serves http://127.0.0.1:${done.port}${done.path}`;
    case 'tcp':
      return `answers a query on port ${done.port}`;
  }
}

process.exitCode = await main().catch((error: Error) => {
  process.stderr.write(`corpus: ${error.message}\n`);
  return 1;
});
