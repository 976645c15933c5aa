/**
 * What dedup domains and epochs cost: the same images pushed one after the other, into one store each
 * time, in one domain, in a domain each, and in one domain that comes into its next epoch half-way.
 * Bytes are exact, whatever else the machine does. Every alternative has a home of its own, so that
 * no push is spared work by an earlier alternative.
 */

import { MiB } from '../src/base/limits.ts';
import { buildImage } from './corpus/build.ts';
import { type Context, type Row, row, type Workload } from './harness.ts';
import { BenchHome, type PushData } from './home.ts';
import { writeSyntheticImage } from './synthetic.ts';

interface Source {
  name: string;
  /** For `imgstore push`. */
  source: string;
}

interface Alternative {
  what: string;
  domainOf(image: Source): string;
  /** The domain comes to another salt before the image of this index. */
  nextEpochAt?: number;
}

interface Total {
  /** Of each image, in their order. */
  newStoredBytes: number[];
  wallMs: number;
  cpuMs: number;
}

const corpusNames = ['base', 'python', 'python-sci', 'nginx'] as const;

export const workload: Workload = {
  name: 'domains',
  summary: 'what dedup domains and epochs cost: bytes stored, and the time of the pushes',

  async run(context) {
    await using scratch = new BenchHome();
    const images = await domainSources(scratch, context);
    const middle = images.length / 2;
    const alternatives: Alternative[] = [
      { what: 'one domain', domainOf: () => 'shared' },
      { what: 'one domain, next epoch', domainOf: () => 'shared', nextEpochAt: middle },
      { what: 'a domain an image', domainOf: ({ name }) => name },
    ];
    const rows: Row[] = [];
    let first: Total | undefined;
    for (const alternative of alternatives) {
      context.report(`domains: ${alternative.what}`);
      const total = await pushAll(images, alternative);
      first ??= total;
      rows.push(...rowsOf(alternative.what, images, total, first));
    }
    return {
      rows,
      commands: images.map(({ name }) => `imgstore push --domain DOMAIN oci:${name} ${name}`),
      notes: [
        `The next epoch began before ${images[middle]!.name}, by imgstore key rotate --domain.`,
      ],
    };
  },
};

/** In the order in which they are pushed. */
export async function domainSources(
  scratch: BenchHome,
  { small, report }: Context,
): Promise<Source[]> {
  if (!small) {
    const images: Source[] = [];
    for (const name of corpusNames) {
      images.push({ name, source: (await buildImage(name, undefined, report)).source });
    }
    return images;
  }
  // Each begins as the one before it, and has more.
  return [2, 3, 4, 5].map(sizeMiB => {
    const name = `image-${sizeMiB}`;
    return { name, source: writeSyntheticImage(scratch.path(name), name, sizeMiB * MiB) };
  });
}

async function pushAll(images: readonly Source[], alternative: Alternative): Promise<Total> {
  await using home = new BenchHome();
  const total: Total = { newStoredBytes: [], wallMs: 0, cpuMs: 0 };
  for (const [index, image] of images.entries()) {
    const domain = alternative.domainOf(image);
    if (index === alternative.nextEpochAt) await home.json(['key', 'rotate', '--domain', domain]);
    const args = ['push', '--json', '--domain', domain, image.source, image.name];
    const { stdout, wallMs, cpuMs } = await home.measure(args);
    const { newStoredBytes } = JSON.parse(stdout) as PushData;
    total.newStoredBytes.push(newStoredBytes);
    total.wallMs += wallMs;
    total.cpuMs += cpuMs;
  }
  return total;
}

function rowsOf(what: string, images: readonly Source[], total: Total, first: Total): Row[] {
  const ratio = (value: number, one: number) =>
    total === first ? {} : { ratio: { value: value / one, to: 'one' } };
  const stored = ({ newStoredBytes }: Total) => newStoredBytes.reduce((a, b) => a + b);
  return [
    {
      ...row(what, 'MB', [{ value: stored(total) / 1e6 }]),
      ...ratio(stored(total), stored(first)),
    },
    ...images.map(({ name }, index) => {
      const bytes = total.newStoredBytes[index]!;
      return {
        ...row(`  ${name}`, 'MB', [{ value: bytes / 1e6 }]),
        ...ratio(bytes, first.newStoredBytes[index]!),
      };
    }),
    {
      ...row('  pushes', 'ms', [{ value: total.wallMs, cpuMs: total.cpuMs }]),
      ...ratio(total.wallMs, first.wallMs),
    },
  ];
}
