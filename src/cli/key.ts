/** `key`: the owner's key, under which recipes are sealed. */

import { describeOwnerKey, generateOwnerKey, type KeyInfo } from '../keys/load.ts';
import { type Command, type CommandResult, usageError } from './command.ts';
import { formatFields } from './format.ts';

export const command: Command = {
  usage: 'generate|show',
  summary: "make or show the owner's key",
  description: `
Recipes are sealed under the owner's key; whoever loses it loses the images. The first push makes
one at keys/owner.key in the home, readable by its owner alone. IMGSTORE_KEY (64 hexadecimal
digits) takes its place.

  generate   make a key; refused if there is one
  show       print the key's id and where it is kept, never the key`,
  options: {},
  positionals: { min: 1, max: 1 },

  async run({ positionals, settings, env }): Promise<CommandResult> {
    const source = { directory: settings.keysDirectory, env };
    switch (positionals[0]) {
      case 'generate':
        return report(await generateOwnerKey(source));
      case 'show':
        return report(await describeOwnerKey(source));
      default:
        throw usageError(
          `Cannot run key ${positionals[0]}: no such thing`,
          'See imgstore key --help',
        );
    }
  },
};

function report({ id, path, created }: KeyInfo): CommandResult {
  const text = formatFields([
    ['id', id],
    ['kept', path ?? 'in the environment (IMGSTORE_KEY)'],
    ...(created === undefined ? [] : ([['created', created.toISOString()]] as const)),
  ]);
  return { data: { id, path, created: created?.toISOString() }, text };
}
