/**
 * What the sizes of sealed chunks tell: who sees a store and holds no key compares the sizes of each
 * recipe's chunks with those of files that it has. Sealing them itself gives the same sizes, whatever
 * the salt, so here they are read from the recipes. Counted is how many files that are cut alone (of
 * 64 KiB and more) are recognised in the images that hold them, and in how many that do not; and what
 * that would be were sizes padded by Padmé (Nikitin et al., PETS 2019), which imgstore does not do.
 */

import { packedFileSizeMaxBytes } from '../src/base/limits.ts';
import { storeSource } from '../src/cache/store-source.ts';
import { Catalog } from '../src/catalog/catalog.ts';
import { DiskReader } from '../src/erofs/reader.ts';
import { walkDisk } from '../src/erofs/walk.ts';
import { ChunkReader } from '../src/image/chunk-reader.ts';
import { DecodedCache } from '../src/image/decoded-cache.ts';
import { metadataSource } from '../src/image/disk-source.ts';
import { LazyDisk } from '../src/image/lazy-disk.ts';
import { ownerKeys } from '../src/keys/owner-keys.ts';
import { parseImageName } from '../src/recipe/name.ts';
import { type ChunkSegment, type Recipe, sealedSizes } from '../src/recipe/recipe.ts';
import { openStore } from '../src/store/open-store.ts';
import { Roots } from '../src/store/roots.ts';
import { domainSources } from './domains.ts';
import { type Row, row, type Workload } from './harness.ts';
import { BenchHome } from './home.ts';

/** A file as the attacker has it. */
type File = readonly ChunkSegment[];

interface Image {
  recipe: Recipe;
  /** Which chunks it has, and what a store shows of them: their sizes in the order of first use. */
  ids: ReadonlySet<string>;
  sizes: readonly number[];
}

const memoryBytes = 64 * 1024 * 1024;

export const workload: Workload = {
  name: 'sizes',
  summary: 'how many large files the sizes of their chunks tell to who has the store alone',

  async run(context) {
    await using home = new BenchHome();
    const names: string[] = [];
    for (const { name, source } of await domainSources(home, context)) {
      context.report(`sizes: pushing ${name}`);
      await home.push(source, name);
      names.push(name);
    }
    context.report('sizes: looking for files');
    const { images, files } = await look(home, names);
    const groups = [
      ['1 chunk', files.filter(({ length }) => length === 1)],
      ['2 chunks', files.filter(({ length }) => length === 2)],
      ['3 and more', files.filter(({ length }) => length > 2)],
    ] as const;
    const found = groups
      .filter(([, group]) => group.length > 0)
      .map(([what, group]) => ({
        what,
        plain: recognise(group, images, size => size),
        padded: recognise(group, images, padme),
      }));
    const sizes = new Map(images.flatMap(({ recipe }) => [...sealedSizes(recipe)]));
    const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);
    const padding = sum([...sizes.values()].map(padme)) / sum(sizes.values()) - 1;
    return {
      rows: found.flatMap(({ what, plain: { held, right } }): Row[] => [
        row(`files of ${what}, in images`, 'count', [{ value: held }]),
        {
          ...row('  recognised', 'count', [{ value: right }]),
          ratio: { value: right / held, to: 'those' },
        },
      ]),
      commands: names.map(name => `imgstore push oci:${name} ${name}`),
      notes: [
        ...found.map(({ what, plain: { absent, wrong } }) => {
          return `files of ${what}: ${wrong} of ${absent} are "recognised" in an image without them`;
        }),
        `Padded by Padmé, the store would take ${(padding * 100).toFixed(1)} % more:`,
        ...found.map(({ what, padded: { held, right, absent, wrong } }) => {
          return `files of ${what}: ${right} of ${held} recognised, and ${wrong} of ${absent} wrongly`;
        }),
      ],
    };
  },
};

async function look(home: BenchHome, names: readonly string[]) {
  const roots = new Roots(await openStore(home.storeFolder));
  const keys = ownerKeys({ directory: home.keysFolder, env: {}, create: false });
  const catalog = new Catalog(roots, keys);
  const reader = new ChunkReader(storeSource(roots), new DecodedCache(memoryBytes), {
    chunksInFlightMax: 8,
  });
  const images: Image[] = [];
  const files = new Map<string, File>();
  for (const name of names) {
    const { recipe } = await catalog.open(parseImageName(name));
    const sizes = sealedSizes(recipe);
    images.push({ recipe, ids: new Set(sizes.keys()), sizes: [...sizes.values()] });
    for await (const file of largeFiles(recipe, reader)) {
      files.set(file.map(({ id }) => id).join(), file);
    }
  }
  return { images, files: [...files.values()] };
}

async function* largeFiles(recipe: Recipe, reader: ChunkReader): AsyncGenerator<File> {
  const disk = new LazyDisk(recipe, reader);
  const walked = await DiskReader.open(metadataSource(disk, recipe));
  for await (const { inode } of walkDisk(walked)) {
    if (inode.kind !== 'file' || inode.sizeBytes < packedFileSizeMaxBytes) continue;
    const file: ChunkSegment[] = [];
    for await (const { diskOffsetBytes, lengthBytes } of walked.extents(inode)) {
      if (diskOffsetBytes === undefined) continue;
      const last = disk.segmentAt(diskOffsetBytes + lengthBytes - 1);
      for (let index = disk.segmentAt(diskOffsetBytes); index <= last; index++) {
        const segment = recipe.segments[index]!;
        if (segment.kind === 'chunk') file.push(segment);
      }
    }
    if (file.length > 0) yield file;
  }
}

/** Pairs of a file and an image: with the file in it, without, and what the sizes say. */
function recognise(
  files: readonly File[],
  images: readonly Image[],
  shown: (sizeBytes: number) => number,
) {
  const counts = { held: 0, right: 0, absent: 0, wrong: 0 };
  const seen = images.map(({ ids, sizes }) => ({ ids, sizes: sizes.map(shown) }));
  for (const file of files) {
    const wanted = file.map(({ sealedSizeBytes }) => shown(sealedSizeBytes));
    for (const { ids, sizes } of seen) {
      const isHeld = file.every(({ id }) => ids.has(id));
      const matches = sizes.some((_, at) => wanted.every((size, i) => sizes[at + i] === size));
      counts[isHeld ? 'held' : 'absent']++;
      if (matches) counts[isHeld ? 'right' : 'wrong']++;
    }
  }
  return counts;
}

/** As many of the lowest bits of a size are made zero, upwards, as its logarithm has room for. */
function padme(sizeBytes: number): number {
  const exponent = Math.floor(Math.log2(sizeBytes));
  const zeroBits = exponent - (Math.floor(Math.log2(exponent)) + 1);
  return Math.ceil(sizeBytes / 2 ** zeroBits) * 2 ** zeroBits;
}
