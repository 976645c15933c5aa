/** `verify`: whether what names mean, or all of a store, is still whole; and what mends it. */

import { ImgstoreError } from '../base/errors.ts';
import { collectBuffersWithTheHeap } from '../base/external-memory.ts';
import { formatImageName, type ImageReference, parseImageReference } from '../recipe/name.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  storeOption,
  usageError,
} from './command.ts';
import { type Opened, openForReading } from './open.ts';
import { repair } from './repair.ts';
import { scrub } from './scrub.ts';
import { describeCost, describeVerdict, Judge, type Verdict } from './verdict.ts';

export const command: Command = {
  usage: '[NAME[:TAG][@RECIPE]…]',
  summary: 'check that every chunk of images is there and right; mend them',
  description: `
Fetches every chunk of the images, or of all your images, compares it with its id, decrypts and
decodes it, and checks the structure of the disks. Exit status 1 if anything is wrong; the result
names each damaged chunk and files that it holds. With @RECIPE, a NAME that means another recipe is
refused.

With --repair, what is missing or damaged of the one image NAME is made again from SOURCE, which is
named as for push and has to be what NAME was pushed from; then it is checked again.

With --scrub, every object of the store is compared with its id, whoever it belongs to and whether
or not it is needed, and what recipes need is looked for. That takes no key.`,
  options: {
    ...storeOption,
    repair: { type: 'boolean', help: 'make again what is missing or damaged of NAME' },
    from: { type: 'string', value: 'SOURCE', help: 'for --repair: what NAME was pushed from' },
    platform: {
      type: 'string',
      value: 'OS/ARCH',
      help: "for --repair: of a multi-platform SOURCE; else this machine's",
    },
    'plain-http': { type: 'boolean', help: 'for --repair: speak HTTP without TLS to the registry' },
    scrub: { type: 'boolean', help: 'check all objects of the store instead, without keys' },
  },
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },

  async run(context): Promise<CommandResult> {
    const names = context.positionals.map(parseImageReference);
    checkUsage(names, context);
    collectBuffersWithTheHeap();
    if (context.flag('scrub')) return await scrub(context);
    const [first] = names;
    const from = context.option('from');
    if (first !== undefined && from !== undefined) return await repair(first, from, context);
    return await verify(names, context);
  },
};

function checkUsage(names: readonly ImageReference[], { flag, option }: CommandContext): void {
  const wrong = (message: string) =>
    usageError(`Cannot run verify: ${message}`, 'See imgstore verify --help');
  const forRepair = ['from', 'platform'].filter(name => option(name) !== undefined);
  if (flag('plain-http')) forRepair.push('plain-http');
  if (flag('scrub') && flag('repair')) throw wrong('--scrub and --repair exclude each other');
  if (flag('scrub') && names.length > 0) throw wrong('--scrub takes no NAME: it checks everything');
  if (!flag('repair') && forRepair.length > 0) throw wrong(`--${forRepair[0]} goes with --repair`);
  if (!flag('repair')) return;
  if (names.length !== 1) throw wrong('--repair takes one NAME');
  if (option('from') === undefined) throw wrong('--repair takes --from SOURCE');
}

async function verify(
  given: readonly ImageReference[],
  context: CommandContext,
): Promise<CommandResult> {
  const opened = await openForReading(context);
  const judge = new Judge(opened, context);
  const images: Verdict[] = [];
  for (const name of given.length > 0 ? given : await ownNames(opened, context)) {
    try {
      images.push((await judge.image(name)).verdict);
    } catch (error) {
      const isRemoved = error instanceof ImgstoreError && error.code === 'NOT_FOUND';
      if (!isRemoved || given.length > 0) throw error; // since it was listed
    }
  }
  const { cost } = judge;
  const lines = [...images.flatMap(describeVerdict), describeCost(cost)];
  return {
    data: { images, ...cost },
    text: images.length === 0 ? 'There is no image of yours in the store' : lines.join('\n'),
    exitStatus: images.every(({ faults }) => faults.length === 0) ? 0 : 1,
  };
}

async function ownNames({ catalog }: Opened, { signal }: CommandContext) {
  const names = new Map<string, ImageReference>();
  for await (const entry of catalog.list({ signal })) {
    if (entry.state !== 'other-key') names.set(formatImageName(entry.name), entry.name);
  }
  return [...names.keys()].sort().map(text => names.get(text)!);
}
