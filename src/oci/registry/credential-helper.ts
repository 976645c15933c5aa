/**
 * Programs that keep credentials: `docker-credential-NAME get`, the host on standard input, JSON on
 * standard output (github.com/docker/docker-credential-helpers).
 */

import { spawn } from 'node:child_process';
import { errnoOf, ImgstoreError } from '../../base/errors.ts';
import { KiB } from '../../base/limits.ts';

export interface HelperAnswer {
  username: string;
  secret: string;
}

/** Some ask a cloud service, or a person. */
const helperTimeoutMs = 60_000;
/** A secret may be a token of some KiB. */
const outputMaxBytes = 64 * KiB;

/** Undefined if it has none for that host; UNAVAILABLE if it cannot say. */
export async function askHelper(
  name: string,
  host: string,
  options: { env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<HelperAnswer | undefined> {
  const program = `docker-credential-${name}`;
  if (!/^[\w.-]+$/.test(name)) {
    throw helperFault(JSON.stringify(program.slice(0, 100)), host, 'that is no name of a program');
  }
  const { exitCode, output } = await run(program, host, options);
  if (exitCode !== 0) {
    // The one text that all helpers share; anything else they say could hold a secret.
    if (/credentials not found/i.test(output)) return undefined;
    throw helperFault(program, host, `it ends with status ${exitCode}`);
  }
  let answer: unknown;
  try {
    answer = JSON.parse(output);
  } catch {
    answer = undefined;
  }
  const { Username: username, Secret: secret } = (answer ?? {}) as Record<string, unknown>;
  if (typeof username !== 'string' || typeof secret !== 'string') {
    throw helperFault(program, host, 'its answer is not as it should be');
  }
  return { username, secret };
}

async function run(
  program: string,
  host: string,
  { env, signal }: { env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<{ exitCode: number | null; output: string }> {
  signal.throwIfAborted();
  // Not spawn's own time-out, whose timer keeps this process up when the program is not there.
  const late = AbortSignal.timeout(helperTimeoutMs);
  const child = spawn(program, ['get'], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
    killSignal: 'SIGKILL',
    signal: AbortSignal.any([signal, late]),
  });
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let sizeBytes = 0;
    const fail = (state: string) => reject(helperFault(program, host, state));
    child.stdin.on('error', () => {}); // it need not read what it is asked
    child.stdin.end(`${host}\n`);
    child.stdout.on('data', (piece: Buffer) => {
      sizeBytes += piece.length;
      if (sizeBytes <= outputMaxBytes) pieces.push(piece);
      else child.kill('SIGKILL');
    });
    child.on('error', error => {
      if (signal.aborted) reject(signal.reason);
      else if (late.aborted) fail('it does not answer');
      else if (errnoOf(error) === 'ENOENT') fail('it is not installed');
      else fail(`it cannot be started (${errnoOf(error)})`);
    });
    child.on('exit', (_code, killedBy) => {
      // A grandchild may hold the pipe open for longer than anybody wants to wait.
      if (killedBy !== null) child.stdout.destroy();
    });
    child.on('close', (exitCode, killedBy) => {
      if (signal.aborted) reject(signal.reason);
      else if (sizeBytes > outputMaxBytes) fail('it says too much');
      else if (killedBy !== null) fail(`it was ended by ${killedBy}`);
      else resolve({ exitCode, output: Buffer.concat(pieces).toString() });
    });
  });
}

function helperFault(program: string, host: string, state: string): ImgstoreError {
  return new ImgstoreError(
    'UNAVAILABLE',
    `Cannot get the credentials for ${host} from ${program}: ${state}`,
    { hint: 'The configuration of docker or podman names it; mend it, or log in again.' },
  );
}
