/** `ls`: the names in the store. */

import { formatImageName } from '../recipe/name.ts';
import { type Command, type CommandResult, storeOption } from './command.ts';
import { formatTable } from './format.ts';
import { openForReading } from './open.ts';

export const command: Command = {
  usage: '',
  summary: 'list the names in the store',
  description: `
Lists every name in the store. A name that another owner's key sealed is listed with that key's id;
one whose record is damaged says so.`,
  options: { ...storeOption },
  positionals: { min: 0, max: 0 },

  async run(context): Promise<CommandResult> {
    const { catalog } = await openForReading(context);
    const names = [];
    for await (const { name, ...entry } of catalog.list({ signal: context.signal })) {
      names.push({ name: formatImageName(name), ...entry });
    }
    names.sort((a, b) => (a.name < b.name ? -1 : 1));
    const rows = names.map(entry =>
      entry.state === 'damaged'
        ? [entry.name, '-', '-', 'damaged']
        : [
            entry.name,
            entry.recipeId.slice(0, 12),
            entry.pushed,
            entry.state === 'readable' ? 'yours' : `key ${entry.keyId}`,
          ],
    );
    const text = rows.length === 0 ? '' : formatTable(['NAME', 'RECIPE', 'PUSHED', 'OWNER'], rows);
    return { data: names, text };
  },
};
