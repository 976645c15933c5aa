/**
 * The main job end to end, as a newcomer sees it: build a small real image, push it, run it lazily
 * from an empty cache, and say what of it was fetched. Everything is kept in a folder of the demo's
 * own, which is removed at the end.
 */

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage } from './corpus/build.ts';

const launcher = join(import.meta.dirname, '..', 'src', 'imgstore.mjs');

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Runs imgstore with the terminal, and shows the command as one would type it. */
async function imgstore(home: string, args: readonly string[]): Promise<void> {
  say(
    `\n$ npx imgstore ${args.map(arg => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg}'`)).join(' ')}`,
  );
  const env = { ...process.env, IMGSTORE_HOME: home };
  const child = spawn(process.execPath, [launcher, ...args], { stdio: 'inherit', env });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  if (status !== 0) throw new Error(`imgstore ${args[0]} ended with status ${status}`);
}

async function main(): Promise<void> {
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => interrupted.abort());
  }
  say('An image of Debian with Python, built from Debian packages with mmdebstrap and umoci.');
  say('The first build takes a minute or two; later runs take it from the cache.');
  const image = await buildImage('python', undefined, say);
  const base = await buildImage('base', undefined, say);
  const home = await mkdtemp(join(tmpdir(), 'imgstore-demo-'));
  const steps = [
    ['push', image.source, 'hello'],
    ['run', '--stats', 'hello'],
    ['run', '--stats', 'hello', '--', '-c', 'print(sum(range(10)))'],
    ['push', base.source, 'base'],
    ['stats'],
  ];
  try {
    for (const step of steps) {
      if (interrupted.signal.aborted) break;
      await imgstore(home, step);
    }
  } finally {
    await imgstore(home, ['daemon', 'stop', '--force', '--quiet']).catch(() => {});
    await rm(home, { recursive: true, force: true });
  }
  say('\nThat was imgstore: npx imgstore --help shows every verb.');
}

await main();
