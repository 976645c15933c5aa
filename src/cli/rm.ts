/** `rm`: forgets a name. */

import { ImgstoreError } from '../base/errors.ts';
import { formatImageName, parseImageName } from '../recipe/name.ts';
import { type Command, type CommandResult, storeOption } from './command.ts';
import { openForReading } from './open.ts';

export const command: Command = {
  usage: 'NAME[:TAG]',
  summary: 'forget a name',
  description: `
Removes the name. Its chunks stay: other images may share them, and what is mounted goes on. What no
name needs any more takes up space until imgstore gc has freed it.`,
  options: { ...storeOption },
  positionals: { min: 1, max: 1 },

  async run(context): Promise<CommandResult> {
    const name = parseImageName(context.positionals[0]!);
    const text = formatImageName(name);
    const { catalog } = await openForReading(context);
    if (!(await catalog.remove(name))) {
      throw new ImgstoreError('NOT_FOUND', `Cannot remove ${text}: no such name`, {
        hint: 'imgstore ls shows the names that are there.',
      });
    }
    return {
      data: { name: text, removed: true },
      text: `${text} removed; imgstore gc frees what no other name needs`,
    };
  },
};
