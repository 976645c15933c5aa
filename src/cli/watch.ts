/**
 * `stats --watch`: what the daemon does now, again and again until it is interrupted. A daemon that
 * ends or is replaced meanwhile is waited for.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, ImgstoreError } from '../base/errors.ts';
import { DaemonClient } from '../daemon/client.ts';
import type { Figures } from '../daemon/protocol.ts';
import type { CommandContext } from './command.ts';
import { Screen, type Terminal } from './screen.ts';
import { type Rates, ratesOf } from './watch-rates.ts';
import { oneLine, picture } from './watch-view.ts';

export interface Output extends Terminal {
  isTTY?: boolean;
}

interface Sample {
  figures: Figures;
  atMs: number;
}

/** Where what is seen goes. */
interface Viewer {
  rates(figures: Figures, rates: Rates): void;
  /** Nothing to show, and why. */
  notice(text: string, daemonPid: number | null): void;
  end(): void;
}

/** Resolves when it is interrupted. Errors: UNAVAILABLE if no daemon runs to begin with. */
export async function watch(
  { settings, json, signal, now }: CommandContext,
  output: Output,
  intervalMs: number,
): Promise<void> {
  const client = new DaemonClient(settings);
  let last = await take(client, signal);
  if (last === undefined) {
    if (signal.aborted) return;
    throw new ImgstoreError('UNAVAILABLE', `Cannot watch ${settings.home}: no daemon runs`, {
      hint: 'mount and run start one, and so does imgstore daemon start.',
    });
  }
  const viewer = viewerFor(output, { json, now });
  try {
    viewer.notice(`Watching daemon ${last.figures.status.pid}`, last.figures.status.pid);
    while (await pause(intervalMs, signal)) {
      const sample = await take(client, signal);
      if (signal.aborted) return;
      show(viewer, sample, last);
      last = sample;
    }
  } finally {
    viewer.end();
  }
}

/** What comes of another daemon than before is no difference to show. */
function show(viewer: Viewer, sample: Sample | undefined, last: Sample | undefined): void {
  const pid = sample?.figures.status.pid;
  if (sample === undefined || pid === undefined) {
    if (last !== undefined) viewer.notice('No daemon runs; waiting for one', null);
  } else if (last === undefined || last.figures.status.pid !== pid) {
    viewer.notice(`Daemon ${pid} has been started`, pid);
  } else {
    const seconds = (sample.atMs - last.atMs) / 1000;
    viewer.rates(sample.figures, ratesOf(sample.figures, last.figures, seconds));
  }
}

/** Undefined without a daemon, with one that is ending, and when it is interrupted. */
async function take(client: DaemonClient, signal: AbortSignal): Promise<Sample | undefined> {
  try {
    const figures = await client.callIfRunning('GET', '/figures', signal);
    if (figures === undefined) return undefined;
    return { figures: figures as Figures, atMs: performance.now() };
  } catch (error) {
    if (signal.aborted || hasCode(error, ['UNAVAILABLE'])) return undefined;
    throw error;
  }
}

/** False when it is interrupted. */
async function pause(intervalMs: number, signal: AbortSignal): Promise<boolean> {
  await sleep(intervalMs, undefined, { signal }).catch(() => {});
  return !signal.aborted;
}

function viewerFor(output: Output, { json, now }: { json: boolean; now: () => Date }): Viewer {
  if (json) return jsonLines(output, now);
  return output.isTTY === true ? onScreen(output) : plainLines(output, now);
}

function jsonLines(output: Output, now: () => Date): Viewer {
  const write = (document: object) =>
    output.write(`${JSON.stringify({ time: now().toISOString(), ...document })}\n`);
  return {
    rates: ({ status, diskCache }, rates) => write({ daemonPid: status.pid, diskCache, ...rates }),
    notice: (notice, daemonPid) => write({ daemonPid, notice }),
    end() {},
  };
}

function plainLines(output: Output, now: () => Date): Viewer {
  const write = (text: string) => output.write(`${now().toISOString().slice(11, 19)} ${text}\n`);
  return { rates: (_, rates) => write(oneLine(rates)), notice: write, end() {} };
}

function onScreen(output: Output): Viewer {
  const screen = new Screen(output);
  return {
    rates: (figures, rates) => screen.draw(picture(figures, rates, screen.linesMax)),
    notice: text => screen.draw([text]),
    end: () => screen.end(),
  };
}
