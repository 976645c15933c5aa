/** `export`: an image back out of the store. */

import { ImgstoreError } from '../base/errors.ts';
import { MiB } from '../base/limits.ts';
import { storeSource } from '../cache/store-source.ts';
import { verified } from '../cache/verified.ts';
import { writeDisk } from '../export/disk.ts';
import { writeOciImage } from '../export/oci.ts';
import { outputStream, writeOutputFile } from '../export/output-file.ts';
import { type ExportOptions, writeTar } from '../export/tar.ts';
import { ChunkReader } from '../image/chunk-reader.ts';
import { DecodedCache } from '../image/decoded-cache.ts';
import { LazyDisk } from '../image/lazy-disk.ts';
import { formatImageName, parseImageReference } from '../recipe/name.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { type Command, type CommandResult, storeOption, usageError } from './command.ts';
import { openForReading } from './open.ts';

/** Files are read in order, so there is little to keep. */
const decodedMaxBytes = 64 * MiB;
const chunksInFlightMax = 16;

export const command: Command = {
  usage: 'NAME[:TAG][@RECIPE] TARGET',
  summary: 'write an image out again',
  description: `
Writes the image to TARGET, which is one of
  oci:DIR[:TAG]   an OCI image of one layer, in a new or an existing layout; TAG is latest if absent
  tar:FILE        its files as a plain tar
  disk:FILE       the raw disk, which mount -t erofs takes

A file appears when all of it is written, not before. With @RECIPE, a NAME that means another recipe
is refused.`,
  options: { ...storeOption },
  positionals: { min: 2, max: 2 },

  async run(context): Promise<CommandResult> {
    const name = parseImageReference(context.positionals[0]!);
    const target = context.positionals[1]!;
    const kind = /^(oci|tar|disk):(.+)$/s.exec(target);
    if (kind === null) {
      throw usageError(
        `Cannot export to "${target}": no such kind`,
        'Use oci:DIR, tar:FILE or disk:FILE',
      );
    }
    const { roots, catalog } = await openForReading(context);
    const { recipe } = await catalog.open(name, { signal: context.signal });
    const text = formatImageName(name);
    const isDisk = recipe.details.kind === 'disk';
    if (isDisk && kind[1] !== 'disk') {
      throw new ImgstoreError(
        'UNSUPPORTED',
        `Cannot export ${text} to ${target}: it is a raw disk`,
        {
          hint: 'Use disk:FILE.',
        },
      );
    }
    const reader = new ChunkReader(
      verified(storeSource(roots)),
      new DecodedCache(decodedMaxBytes),
      {
        chunksInFlightMax,
      },
    );
    const total = kind[1] === 'disk' ? recipe.diskSizeBytes : recipe.details.contentBytes;
    let begun = false; // what cannot even begin is said in one line
    await write(kind[1]!, kind[2]!, recipe, new LazyDisk(recipe, reader), {
      signal: context.signal,
      onProgress: doneBytes => {
        if (!begun) context.progress.step(`Exporting ${text} to ${target}`);
        begun = true;
        context.progress.advance(doneBytes, total);
      },
    });
    return { data: { name: text, target }, text: `${text} exported to ${target}` };
  },
};

async function write(
  kind: string,
  path: string,
  recipe: Recipe,
  disk: LazyDisk,
  options: ExportOptions,
): Promise<void> {
  if (kind === 'oci') return writeOciImage(recipe, disk, layoutTarget(path), options);
  await writeOutputFile(path, async file => {
    if (kind === 'disk') return writeDisk(recipe, disk, file, options);
    await writeTar(disk, outputStream(file), options);
  });
}

/** `DIR[:TAG]`: the tag is what stands behind the last colon, unless a slash follows it. */
function layoutTarget(text: string): { directory: string; tag: string } {
  const match = /^(.+):([^/:]+)$/s.exec(text);
  return match === null
    ? { directory: text, tag: 'latest' }
    : { directory: match[1]!, tag: match[2]! };
}
