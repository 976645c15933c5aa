/** `gc`: frees what no name needs. */

import { ImgstoreError } from '../base/errors.ts';
import { collect } from '../gc/collect.ts';
import { type GcPlan, type GcStep, planCollection } from '../gc/plan.ts';
import { type GcProblem, isBlocking } from '../gc/problem.ts';
import { bytesOf, type Usage } from '../gc/usage.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  storeOption,
  usageError,
} from './command.ts';
import { formatBytes, formatCount } from './format.ts';
import { openForReading } from './open.ts';

const defaultGrace = '24h';
const namesShownMax = 5;

export const command: Command = {
  usage: '',
  summary: 'free what no name needs any more',
  description: `
Everything lies in roots. If the active root holds what no name needs, another is opened and what
names do need is copied there, by the store itself: by hard links in a folder. The old root is
retired, after the grace expired, and after the grace once more deleted. Until then mounts read from
it; a read from an expired root is an alarm that keeps it. Pushes may run meanwhile, and a push that
writes to a root keeps it too. What was done and what waits is printed, with the reason.

Run it again and again, from cron for instance: each run does what is due. It may be stopped at any
time. No key is needed. Exit status 1 if a name cannot be read, so that nothing may be deleted.`,
  options: {
    ...storeOption,
    'dry-run': { type: 'boolean', help: 'print what would be done, and do nothing' },
    grace: {
      type: 'string',
      value: 'DURATION',
      help: `of each step: 0s, 30m, 12h, 7d; ${defaultGrace} if not given`,
    },
  },
  positionals: { min: 0, max: 0 },

  async run(context): Promise<CommandResult> {
    const { progress, signal, log } = context;
    const grace = context.option('grace') ?? defaultGrace;
    const graceMs = parseDuration(grace);
    const { roots } = await openForReading(context);
    progress.step('Looking at what names need and roots hold');
    const plan = await planCollection(roots, { graceMs, signal });
    progress.end();
    const isDryRun = context.flag('dry-run');
    let { steps }: { steps: readonly GcStep[] } = plan;
    let { problems } = plan.survey;
    if (!isDryRun) {
      const showProgress = copying(plan, context);
      ({ steps, problems } = await collect(roots, plan, {
        onStep: step => context.print({ text: describeStep(step, grace) }),
        onProgress: showProgress,
        signal,
      }));
    }
    for (const problem of problems) log('warn', describeProblem(problem));
    const lines = isDryRun ? steps.map(step => describeStep(step, grace)) : [];
    const data = { dryRun: isDryRun, now: plan.now, graceMs, ...plan.survey, steps, problems };
    const blocking = problems.filter(isBlocking);
    return {
      data,
      text: [...lines, summaryOf(plan, steps, isDryRun)].join('\n'),
      ...(blocking.length > 0 && { exitStatus: 1, failure: untold(blocking) }),
    };
  },
};

/** Milliseconds. */
function parseDuration(text: string): number {
  const [, digits, unit] = /^([0-9]{1,6})(s|m|h|d)$/.exec(text) ?? [];
  if (digits === undefined) {
    const message = `Cannot use --grace ${JSON.stringify(text)}: it is not a duration`;
    throw usageError(message, 'Give a number and s, m, h or d: 0s, 30m, 12h, 7d.');
  }
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400 }[unit as 's' | 'm' | 'h' | 'd'];
  return Number(digits) * seconds * 1000;
}

function copying({ steps }: GcPlan, { progress }: CommandContext): (copied: Usage) => void {
  const planned = steps.find(step => step.do === 'copy');
  const totalBytes = planned === undefined ? undefined : bytesOf(planned.usage);
  let isBegun = false;
  return copied => {
    if (!isBegun) progress.step('Copying what names need');
    isBegun = true;
    progress.advance(bytesOf(copied), totalBytes);
  };
}

/** One line; the same for what would be done and what was. */
function describeStep(step: GcStep, grace: string): string {
  const { root } = step;
  switch (step.do) {
    case 'clean':
      return `clean ${root}: it is deleted, and ${amount(step.objects, step.bytes)} were left`;
    case 'revive':
      return (
        `keep ${root}: it was read from after it had expired, ${time(step.alarmed)}; ` +
        'it is retired again'
      );
    case 'open': {
      const [garbage, all] = [bytesOf(step.garbage), bytesOf(step.holds)].map(formatBytes);
      const of = contents(step.garbage);
      return `open ${root}: no name needs ${garbage} of the ${all} in ${step.active}, ${of}`;
    }
    case 'copy':
      return `copy to ${root}: ${contents(step.usage)}, ${formatBytes(bytesOf(step.usage))}`;
    case 'expire':
      return `expire ${root}: retired since ${time(step.since)}, and all that names need is copied`;
    case 'delete':
      return (
        `delete ${root}: ${amount(step.objects, step.bytes)}, ` +
        `of which no name needs ${formatBytes(step.garbageBytes)}`
      );
    case 'wait':
      return describeWaiting(step, grace);
  }
}

function describeWaiting(step: GcStep & { do: 'wait' }, grace: string): string {
  const { root } = step;
  switch (step.for) {
    case 'grace': {
      const [state, next] =
        step.next === 'expire' ? ['retired', 'expires'] : ['expired', 'is deleted'];
      const [since, until] = [time(step.since), time(step.until)];
      const when = `${state} since ${since}, it ${next} from ${until} on`;
      return `wait for ${root}: ${when} (grace ${grace})`;
    }
    case 'push':
      return `wait for ${root}: held by a push since ${time(step.since)}`;
    case 'names':
      return `wait for ${root}: a name cannot be read, so what it needs cannot be told`;
    case 'root':
      return (
        `wait for ${step.other}: it is to be gone before another root is opened for the ` +
        `${formatBytes(bytesOf(step.garbage))} in ${root} that no name needs`
      );
  }
}

function summaryOf(
  { survey: { live, names } }: GcPlan,
  steps: readonly GcStep[],
  isDryRun: boolean,
): string {
  const removed = steps.filter(step => step.do === 'delete' || step.do === 'clean');
  const objects = removed.reduce((sum, step) => sum + step.objects, 0);
  const bytes = removed.reduce((sum, step) => sum + step.bytes, 0);
  const need = names === 1 ? 'needs' : 'need';
  const all = `${formatBytes(bytesOf(live))} in ${contents(live)}`;
  const needs = `${formatCount(names, 'name')} ${need} ${all}`;
  if (steps.length === 0) return `nothing to do; ${needs}`;
  const verb = isDryRun ? 'would remove' : 'removed';
  return `${verb} ${amount(objects, bytes)}; ${needs}`;
}

function describeProblem({ what, names, problem }: GcProblem): string {
  const more = names.length > namesShownMax ? ` and ${names.length - namesShownMax} more` : '';
  const shown = `${names.slice(0, namesShownMax).join(', ')}${more}`;
  if (what === 'name-untold') return `${shown} cannot be read: ${problem}`;
  return `${shown}: ${problem}; imgstore verify --repair mends it`;
}

function untold(problems: readonly GcProblem[]): ImgstoreError {
  const names = problems.flatMap(problem => problem.names);
  const [first] = names;
  const others =
    names.length > 1 ? ` and ${formatCount(names.length - 1, 'other name')} need` : ' needs';
  const what = `Cannot collect garbage: what ${first}${others} cannot be told`;
  return new ImgstoreError('CORRUPT', what, {
    hint: 'Push them again, mend them with imgstore verify --repair, or remove them with imgstore rm.',
  });
}

function contents({ chunks, recipes }: Usage): string {
  return `${formatCount(chunks, 'chunk')} and ${formatCount(recipes, 'recipe')}`;
}

function amount(objects: number, bytes: number): string {
  return `${formatCount(objects, 'object')}, ${formatBytes(bytes)}`;
}

/** To the second, in UTC. */
function time(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}
