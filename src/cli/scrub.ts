/** `verify --scrub`: all objects of a store, without keys. */

import { byteStringOfText, printable } from '../base/byte-string.ts';
import { type ScrubFault, type ScrubReport, scrubStore } from '../catalog/scrub.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { formatCount } from './format.ts';
import { openForReading } from './open.ts';
import { describeCost } from './verdict.ts';

const namesShownMax = 3;

export async function scrub(context: CommandContext): Promise<CommandResult> {
  const started = performance.now();
  const { progress, signal } = context;
  const { roots } = await openForReading(context);
  const report = await scrubStore(roots, {
    onRoot: ({ id, chunks, recipes }) =>
      progress.step(
        `Scrubbing root ${id}: ${formatCount(chunks, 'chunk')}, ${formatCount(recipes, 'recipe')}`,
      ),
    onProgress: (doneBytes, totalBytes) => progress.advance(doneBytes, totalBytes),
    signal,
  });
  const seconds = (performance.now() - started) / 1000;
  return {
    data: { ...report, seconds },
    text: describe(report, seconds).join('\n'),
    exitStatus: report.faultCount === 0 ? 0 : 1,
  };
}

function describe(report: ScrubReport, seconds: number): string[] {
  const { roots, names, faults, faultCount, foreign, foreignCount } = report;
  const lines = faults.map(describeFault);
  if (faultCount > faults.length) lines.push(`and ${faultCount - faults.length} more faults`);
  lines.push(...foreign.map(key => `${shown(key)}: not an object of imgstore`));
  if (foreignCount > foreign.length) {
    lines.push(`and ${foreignCount - foreign.length} more objects that are not of imgstore`);
  }
  const sum = (of: 'chunks' | 'chunkBytes' | 'recipes' | 'recipeBytes') =>
    roots.reduce((total, root) => total + root[of], 0);
  const bytes = sum('chunkBytes') + sum('recipeBytes');
  const cost = { checkedChunks: sum('chunks'), checkedBytes: bytes, seconds };
  const held = [
    formatCount(sum('recipes'), 'recipe'),
    formatCount(names, 'name'),
    formatCount(roots.length, 'root'),
  ].join(', ');
  const outcome = faultCount === 0 ? 'nothing is wrong' : formatCount(faultCount, 'fault');
  lines.push(`${describeCost(cost)}; ${held}: ${outcome}`);
  return lines;
}

function describeFault({ key, problem, names, what }: ScrubFault): string {
  if (what === 'name') return `${key}: ${problem}`;
  const more = names.length > namesShownMax ? `, and ${names.length - namesShownMax} more` : '';
  const needed =
    names.length > 0 ? ` (needed by ${names.slice(0, namesShownMax).join(', ')}${more})` : '';
  return `${key}: ${problem}${needed}`;
}

/** Foreign keys may hold anything. */
function shown(key: string): string {
  return printable(byteStringOfText(key));
}
