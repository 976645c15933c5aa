/** `push`: a source image becomes chunks, a recipe and a name in the store. */

import { join } from 'node:path';
import { collectBuffersWithTheHeap } from '../base/external-memory.ts';
import { openSource } from '../oci/source/open.ts';
import { LayerFolder } from '../push/memo/layer-folder.ts';
import { imageNow, type PushReport, type PushTarget, pushImage } from '../push/push.ts';
import { checkDisk, pushDisk } from '../push/push-disk.ts';
import { formatImageName, type ImageName, parseImageName } from '../recipe/name.ts';
import { type Command, type CommandContext, type CommandResult, storeOption } from './command.ts';
import { formatBytes, formatFields, formatShare } from './format.ts';
import { openDedupSalt, openForPush } from './open.ts';

export const command: Command = {
  usage: 'SOURCE NAME[:TAG]',
  summary: 'convert an image and store it under a name',
  description: `
Flattens the image SOURCE into one read-only disk, cuts it into chunks, and stores those that the
store does not have yet. NAME points at the new image when all of it is stored, not before.

SOURCE is one of
  oci:DIR[:TAG]               an OCI layout
  docker-archive:FILE[:REF]   what docker save writes
  docker://HOST/REPO[:TAG|@DIGEST]
                              an image in a registry, with the credentials of docker login,
                              podman login or skopeo login
  disk:FILE                   a raw disk or memory snapshot, as it is`,
  options: {
    ...storeOption,
    platform: {
      type: 'string',
      value: 'OS/ARCH',
      help: "of a multi-platform image; else this machine's",
    },
    'plain-http': {
      type: 'boolean',
      help: 'speak HTTP without TLS to the registry; loopback needs no flag',
    },
    domain: {
      type: 'string',
      value: 'NAME',
      help: 'dedup within this domain only; makes its secret if it is not here',
    },
    force: { type: 'boolean', help: 'store every chunk again, which mends damaged ones' },
  },
  positionals: { min: 2, max: 2 },

  async run(context): Promise<CommandResult> {
    const [source, nameText] = context.positionals as [string, string];
    const name = parseImageName(nameText);
    collectBuffersWithTheHeap();
    const started = performance.now();
    const report = await push(source, name, context);
    const seconds = (performance.now() - started) / 1000;
    const { recipe, outcome, ...sizes } = report;
    const data = { name: formatImageName(name), recipe, outcome, ...sizes, seconds };
    return { data, text: describe(formatImageName(name), report, seconds) };
  },
};

async function push(source: string, name: ImageName, context: CommandContext): Promise<PushReport> {
  const { signal, log } = context;
  const platform = context.option('platform');
  const opened = await openForPush(context);
  const before = { image: await imageNow({ ...opened, name, signal }) };
  const disk = /^disk:(.*)$/s.exec(source)?.[1];
  if (disk !== undefined) await checkDisk(disk);
  const image =
    disk !== undefined
      ? undefined
      : await openSource(source, {
          signal,
          platform,
          plainHttp: context.flag('plain-http'),
          env: context.env,
          knownConfig: before.image?.recipe.details.configText,
        });
  try {
    const target: PushTarget = {
      ...opened,
      name,
      before,
      salt: await openDedupSalt(context),
      rewrite: context.flag('force'),
      memory: new LayerFolder(join(context.settings.home, 'layers'), context),
      now: context.now,
      signal,
      onWarning: message => log('warn', message),
      onProgress: reporter(source, context),
    };
    if (image === undefined) return await pushDisk(disk!, target);
    return await pushImage(image, target);
  } finally {
    await image?.close();
  }
}

/** Shows a conversion of SOURCE. */
export function reporter(source: string, { progress }: CommandContext): PushTarget['onProgress'] {
  let shown = '';
  const step = (title: string) => {
    if (title !== shown) progress.step(title);
    shown = title;
  };
  return event => {
    if (event.phase === 'layers') {
      step(`Layer ${event.layer} of ${event.layers}`);
      // How large a layer is unpacked nobody knows before its end.
      progress.advance(event.tarBytes, undefined, (event.layer - 1) / event.layers);
    } else if (event.phase === 'disk') {
      step(`Reading ${source}`);
      progress.advance(event.readBytes, event.sizeBytes);
    } else {
      step('Storing');
    }
  };
}

function describe(name: string, report: PushReport, seconds: number): string {
  if (report.outcome === 'unchanged' && report.newChunks === 0) {
    return `${name} is already there, unchanged (recipe ${report.recipe.slice(0, 12)})`;
  }
  const speed = report.contentBytes / seconds;
  return formatFields([
    ['name', name],
    ['recipe', report.recipe.slice(0, 12)],
    ['disk', formatBytes(report.diskBytes)],
    ['stored', `${formatBytes(report.storedBytes)} in ${report.chunks} chunks`],
    [
      'new',
      `${formatBytes(report.newStoredBytes)} in ${report.newChunks} chunks ` +
        `(${formatShare(report.newStoredBytes, report.storedBytes)})`,
    ],
    ['time', `${seconds.toFixed(2)} s, ${formatBytes(speed)}/s of content`],
  ]);
}
