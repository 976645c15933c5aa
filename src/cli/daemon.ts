/** `daemon`: the process that serves every mount of a home. */

import { DaemonClient } from '../daemon/client.ts';
import type { DaemonStatus } from '../daemon/protocol.ts';
import { type Command, type CommandContext, type CommandResult, usageError } from './command.ts';
import { formatBytes, formatFields } from './format.ts';

export const command: Command = {
  usage: 'start|stop|status|run',
  summary: 'start, stop or look at the daemon',
  description: `
One daemon a home serves all mounts. mount and run start one that ends when nothing has been mounted
for some seconds; one that is started here stays.

  start    in the background, until stop
  stop     refused while something is mounted, unless --force
  status   what it is and what it holds; exit status 1 if none runs
  run      in the foreground, logging to stderr as well`,
  options: {
    force: { type: 'boolean', help: 'stop: unmount everything first, even what is in use' },
    'exit-when-idle': {
      type: 'boolean',
      help: 'run: end when nothing has been mounted for a while',
    },
  },
  positionals: { min: 1, max: 1 },

  async run(context): Promise<CommandResult> {
    const client = new DaemonClient(context.settings);
    switch (context.positionals[0]) {
      case 'start':
        return start(client, context);
      case 'stop':
        return stop(client, context);
      case 'status':
        return status(client);
      case 'run':
        return runHere(context);
      default:
        throw usageError(
          `Cannot run daemon ${context.positionals[0]}: no such thing`,
          'Use start, stop, status or run: see imgstore daemon --help',
        );
    }
  },
};

async function start(client: DaemonClient, { signal }: CommandContext): Promise<CommandResult> {
  // One that runs may be of those that end when idle, and so may one that is quicker than ours.
  if ((await client.callIfRunning('POST', '/stay')) === undefined) {
    await client.start({ exitWhenIdle: false, signal });
    await client.callIfRunning('POST', '/stay');
  }
  return { data: { running: true }, text: 'The daemon runs' };
}

async function runHere(context: CommandContext): Promise<CommandResult> {
  const { runDaemon } = await import('../daemon/run.ts');
  const served = await runDaemon({
    settings: context.settings,
    env: context.env,
    exitWhenIdle: context.flag('exit-when-idle'),
    signal: context.signal,
    echo: context.flag('quiet') ? undefined : line => process.stderr.write(line),
  });
  return { text: served ? 'The daemon has ended' : 'Another daemon serves this home already' };
}

async function stop(client: DaemonClient, context: CommandContext): Promise<CommandResult> {
  const path = context.flag('force') ? '/stop?force=1' : '/stop';
  const answer = await client.callIfRunning('POST', path, context.signal);
  const text = answer === undefined ? 'No daemon runs' : 'The daemon has stopped';
  return { data: { running: false }, text };
}

async function status(client: DaemonClient): Promise<CommandResult> {
  const answer = (await client.callIfRunning('GET', '/status')) as DaemonStatus | undefined;
  if (answer === undefined) {
    return { data: { running: false }, text: 'No daemon runs', exitStatus: 1 };
  }
  const text = formatFields([
    ['pid', String(answer.pid)],
    ['mounts', String(answer.mounts)],
    ['up', `${answer.uptimeSeconds} s`],
    ['memory', formatBytes(answer.memoryBytes)],
    ['decoded chunks', formatBytes(answer.memoryCacheBytes)],
    ['disk cache', formatBytes(answer.diskCacheBytes)],
    ['shared cache', describeFleet(answer)],
    ['metrics', describeMetrics(answer)],
  ]);
  return { data: { running: true, ...answer }, text };
}

function describeFleet({ fleet }: DaemonStatus): string {
  if (fleet === null) return 'none';
  const { shape, nodes, passedOver } = fleet;
  const state = passedOver.length === 0 ? 'all well' : `passed over: ${passedOver.join(', ')}`;
  return `${shape} on ${nodes} nodes, ${state}`;
}

function describeMetrics({ metrics }: DaemonStatus): string {
  if (metrics === null) return 'on the control socket';
  return metrics.problem ?? `http://${metrics.address}/metrics`;
}
