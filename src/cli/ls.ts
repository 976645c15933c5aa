/** `ls`: the names in the store. */

import { describeOwnerKey } from '../keys/owner-files.ts';
import { formatImageName } from '../recipe/name.ts';
import { type Command, type CommandResult, storeOption } from './command.ts';
import { formatTable } from './format.ts';
import { openForReading } from './open.ts';

export const command: Command = {
  usage: '',
  summary: 'list the names in the store',
  description: `
Lists every name in the store. A name that another key sealed than the one in use is listed with
that key's id, and "held" if the key is here and opens it; one whose record is damaged says so.`,
  options: { ...storeOption },
  positionals: { min: 0, max: 0 },

  async run(context): Promise<CommandResult> {
    const { catalog } = await openForReading(context);
    const { settings, env } = context;
    const own = await describeOwnerKey({ directory: settings.keysDirectory, env });
    const names = [];
    for await (const { name, ...entry } of catalog.list({ signal: context.signal })) {
      names.push({ name: formatImageName(name), ...entry });
    }
    names.sort((a, b) => (a.name < b.name ? -1 : 1));
    const rows = names.map(entry =>
      entry.state === 'damaged'
        ? [entry.name, '-', '-', 'damaged']
        : [entry.name, entry.recipeId.slice(0, 12), entry.pushed, ownerOf(entry, own?.id)],
    );
    const text = rows.length === 0 ? '' : formatTable(['NAME', 'RECIPE', 'PUSHED', 'OWNER'], rows);
    const data = names.map(entry => {
      if (entry.state === 'damaged') return entry;
      const { recipeId: recipe, ...rest } = entry;
      return { ...rest, recipe };
    });
    return { data, text };
  },
};

function ownerOf({ state, keyId }: { state: string; keyId: string }, own: string | undefined) {
  if (keyId === own) return 'yours';
  return state === 'readable' ? `key ${keyId}, held` : `key ${keyId}`;
}
