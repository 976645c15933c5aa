/** `inspect`: one image: what it is made of and what it shares. */

import { byteStringOfText, printable } from '../base/byte-string.ts';
import type { ChunkId, RecipeId } from '../base/digest.ts';
import { describeError, ImgstoreError } from '../base/errors.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { type ImageConfig, parseImageConfig } from '../container/image-config.ts';
import { formatImageName, parseImageReference } from '../recipe/name.ts';
import { type Recipe, sealedSizes, storedSize } from '../recipe/recipe.ts';
import { type Command, type CommandResult, storeOption } from './command.ts';
import { formatBytes, formatFields, formatShare } from './format.ts';
import { type Opened, openForReading } from './open.ts';

interface Sharing {
  name: string;
  chunks: number;
  storedBytes: number;
}

export const command: Command = {
  usage: 'NAME[:TAG][@RECIPE]',
  summary: 'show one image: config, sizes, chunks, what it shares',
  description: `
Shows what the image is, how large its disk is and what it takes in the store, and how much of that
each other name shares with it. With @RECIPE, a NAME that means another recipe is refused.`,
  options: { ...storeOption },
  positionals: { min: 1, max: 1 },

  async run(context): Promise<CommandResult> {
    const opened = await openForReading(context);
    const name = parseImageReference(context.positionals[0]!);
    const { recipe, recipeId, pushed } = await opened.catalog.open(name, {
      signal: context.signal,
    });
    const text = formatImageName(name);
    const shared = await sharing(opened, text, recipe, context.signal);
    const data = { name: text, recipe: recipeId, pushed, ...summary(recipe), shared };
    return { data, text: describe(data) };
  },
};

function summary(recipe: Recipe) {
  const { details, segments } = recipe;
  return {
    kind: details.kind,
    manifestDigest: details.manifestDigest ?? null,
    platform: details.platform ?? null,
    config: details.configText === undefined ? null : (JSON.parse(details.configText) as unknown),
    diskBytes: recipe.diskSizeBytes,
    metadataBytes: recipe.metadataSizeBytes,
    contentBytes: details.contentBytes ?? null,
    files: details.inodeCount ?? null,
    ...storedSize(recipe),
    segments: segments.length,
    pipeline: details.pipeline,
    saltId: details.saltId,
    saltDomain: details.saltDomain ?? null,
    saltEpoch: details.saltEpoch ?? null,
  };
}

/** Chunk ids are readable without a key, so other owners' images count as well. */
async function sharing(
  { catalog }: Opened,
  name: string,
  recipe: Recipe,
  signal: AbortSignal,
): Promise<Sharing[]> {
  const own = sealedSizes(recipe);
  const shares: Sharing[] = [];
  for await (const entry of catalog.list({ signal })) {
    const other = formatImageName(entry.name);
    if (entry.state === 'damaged' || other === name) continue;
    const share = { name: other, chunks: 0, storedBytes: 0 };
    for (const id of await chunkIds(catalog, entry.recipeId, signal)) {
      const sizeBytes = own.get(id);
      if (sizeBytes === undefined) continue;
      share.chunks++;
      share.storedBytes += sizeBytes;
    }
    shares.push(share);
  }
  return shares.sort((a, b) => b.storedBytes - a.storedBytes);
}

/** Of another image; none if its recipe is lost or damaged, which is not this image's fault. */
async function chunkIds(catalog: Catalog, id: RecipeId, signal: AbortSignal): Promise<ChunkId[]> {
  try {
    return (await catalog.chunkIds(id, { signal })) ?? [];
  } catch (error) {
    if (!(error instanceof ImgstoreError) || error.code === 'UNAVAILABLE') throw error;
    signal.throwIfAborted();
    return [];
  }
}

function describe(
  data: { name: string; recipe: string; pushed: string; shared: Sharing[] } & ReturnType<
    typeof summary
  >,
): string {
  const { platform, config } = data;
  const fields: [string, string][] = [
    ['name', data.name],
    ['recipe', data.recipe],
    ['pushed', data.pushed],
    ['kind', data.kind === 'oci' ? 'image' : 'raw disk'],
  ];
  if (data.manifestDigest !== null) fields.push(['manifest', data.manifestDigest]);
  if (platform !== null) {
    const { os, architecture, variant } = platform;
    fields.push(['platform', oneLine([os, architecture, variant].filter(Boolean).join('/'))]);
  }
  if (config !== null) fields.push(...configFields(config));
  if (data.files !== null) fields.push(['inodes', String(data.files)]);
  if (data.contentBytes !== null) fields.push(['content', formatBytes(data.contentBytes)]);
  fields.push(
    [
      'disk',
      `${formatBytes(data.diskBytes)}, of which metadata ${formatBytes(data.metadataBytes)}`,
    ],
    ['stored', `${formatBytes(data.storedBytes)} in ${data.chunks} chunks`],
    ['dedup', dedupDomain(data)],
  );
  for (const { name, chunks, storedBytes } of data.shared) {
    const share = formatShare(storedBytes, data.storedBytes);
    fields.push(['shares', `${share} (${chunks} chunks) with ${name}`]);
  }
  return formatFields(fields);
}

function dedupDomain({ saltId, saltDomain, saltEpoch }: ReturnType<typeof summary>): string {
  const domain = saltDomain === null ? 'the default domain' : `domain ${saltDomain}`;
  const epoch = saltEpoch === null ? '' : `, epoch ${saltEpoch}`;
  return `${domain}${epoch}, salt ${saltId}`;
}

function configFields(config: unknown): [string, string][] {
  let image: ImageConfig;
  try {
    image = parseImageConfig(JSON.stringify(config));
  } catch (error) {
    return [['config', describeError(error)]];
  }
  const words = (list: readonly string[]) => list.map(word => `"${oneLine(word)}"`).join(' ');
  const fields: [string, string][] = [
    ['entrypoint', words(image.entrypoint)],
    ['command', words(image.command)],
    ['environment', words(image.environment)],
    ['directory', oneLine(image.workingDirectory)],
    ['user', oneLine(image.user)],
  ];
  return fields.filter(([, value]) => value !== '');
}

/** Texts of the image's author: nothing in them may start a line or steer the terminal. */
function oneLine(text: string): string {
  return printable(byteStringOfText(text));
}
