/** `verify`: whether what names mean is still whole. */

import { describeError, type ErrorCode, ImgstoreError } from '../base/errors.ts';
import { storeSource } from '../cache/store-source.ts';
import { verified } from '../cache/verified.ts';
import { type ImageFault, verifyImage } from '../image/verify.ts';
import { formatImageName, type ImageName, parseImageName } from '../recipe/name.ts';
import { type Command, type CommandContext, type CommandResult, storeOption } from './command.ts';
import { formatBytes } from './format.ts';
import { type Opened, openForReading } from './open.ts';

interface Verdict {
  name: string;
  chunks: number;
  storedBytes: number;
  faults: ImageFault[];
}

const filesShownMax = 3;
/** No such name, another owner's, a store that does not answer: they say nothing of the image. */
const notDamage: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'KEY', 'UNAVAILABLE']);

export const command: Command = {
  usage: '[NAME[:TAG]]',
  summary: 'check that every chunk of an image is there and right',
  description: `
Fetches every chunk of the image, or of all your images, compares it with its id, decrypts and
decodes it, and checks the structure of the disk. Exit status 1 if anything is wrong; the result
names each damaged chunk and files that it holds. Pushing the image again with --force mends it.`,
  options: { ...storeOption },
  positionals: { min: 0, max: 1 },

  async run(context): Promise<CommandResult> {
    const opened = await openForReading(context);
    const verdicts: Verdict[] = [];
    for (const name of await wanted(opened, context)) {
      verdicts.push(await verdictOn(name, opened, context));
    }
    const broken = verdicts.some(verdict => verdict.faults.length > 0);
    return {
      data: verdicts,
      text: verdicts.flatMap(describe).join('\n') || 'There is no image of yours in the store',
      exitStatus: broken ? 1 : 0,
    };
  },
};

async function wanted({ catalog }: Opened, { positionals, signal }: CommandContext) {
  if (positionals[0] !== undefined) return [parseImageName(positionals[0])];
  const names: ImageName[] = [];
  for await (const entry of catalog.list({ signal })) {
    if (entry.state !== 'other-key') names.push(entry.name);
  }
  return names;
}

async function verdictOn(
  name: ImageName,
  { catalog, roots }: Opened,
  { progress, signal }: CommandContext,
): Promise<Verdict> {
  const text = formatImageName(name);
  try {
    const { recipe } = await catalog.open(name, { signal });
    progress.step(`Verifying ${text}`);
    const verdict = await verifyImage(recipe, verified(storeSource(roots)), {
      signal,
      onProgress: checkedBytes => progress.advance(checkedBytes, undefined),
    });
    return { name: text, ...verdict };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ImgstoreError) || notDamage.has(error.code)) throw error;
    return {
      name: text,
      chunks: 0,
      storedBytes: 0,
      faults: [{ problem: describeError(error), files: [] }],
    };
  }
}

function describe({ name, chunks, storedBytes, faults }: Verdict): string[] {
  if (faults.length === 0)
    return [`${name} is whole: ${chunks} chunks, ${formatBytes(storedBytes)}`];
  return [
    `${name} is damaged (${chunks} chunks, ${faults.length} ${faults.length === 1 ? 'fault' : 'faults'})`,
    ...faults.map(({ chunk, problem, files }) => {
      const more = files.length > filesShownMax ? `, and ${files.length - filesShownMax} more` : '';
      const where = files.length > 0 ? ` (${files.slice(0, filesShownMax).join(', ')}${more})` : '';
      return chunk === undefined ? `  ${problem}` : `  chunk ${chunk}: ${problem}${where}`;
    }),
  ];
}
