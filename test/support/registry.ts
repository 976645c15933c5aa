/**
 * A real registry for tests and developers: Debian's docker-registry on a loopback port of its own
 * choice, with its images in a temporary folder. `skopeo` fills it.
 *
 * Invariant: it does not outlive the test's process, however that ends.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { runChecked } from './processes.ts';

const startTimeoutMs = 30_000;

export const registryUser = 'tester';
export const registryPassword = 'not-a-secret';
/** bcrypt of the password, as `htpasswd -B` makes it. */
const passwordHash = '$2b$04$AGlPsa6TwqEczK4EPifwF.o//gY/VWpm3EA6.I4bMET9GKoa2G88y';

export interface RegistryOptions {
  /** Asks for Basic authentication as the one user. */
  password?: boolean;
  /** More of its configuration, as YAML lines from the first column on. */
  configuration?: string;
}

export interface Registry {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** What was asked since the last fill: `GET /v2/…`. Tests may empty it. */
  readonly requests: string[];
  /** `skopeo copy` into it; `source` in skopeo's own words, `name` as `repo:tag`. */
  fill(source: string, name: string, options?: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** Closed when the test ends. */
export async function startRegistry(
  context: { after(fn: () => Promise<void>): void },
  options: RegistryOptions = {},
): Promise<Registry> {
  const folder = mkdtempSync(join(tmpdir(), 'imgstore-registry-'));
  writeFileSync(join(folder, 'htpasswd'), `${registryUser}:${passwordHash}\n`);
  writeFileSync(join(folder, 'config.yml'), configuration(folder, options));
  // Even if this process is killed with SIGKILL, the kernel ends the registry.
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', 'docker-registry', 'serve', join(folder, 'config.yml')],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const close = async () => {
    await killChild(child);
    rmSync(folder, { recursive: true, force: true });
  };
  context.after(close);
  const requests: string[] = [];
  const port = await listening(child, requests);
  const host = `127.0.0.1:${port}`;
  const login =
    options.password === true ? [`--dest-creds=${registryUser}:${registryPassword}`] : [];
  const fill = async (source: string, name: string, more: readonly string[] = []) => {
    const target = `docker://${host}/${name}`;
    const flags = ['--dest-tls-verify=false', ...login, ...more];
    await runChecked('skopeo', ['copy', '--quiet', ...flags, source, target]);
    requests.length = 0;
  };
  return { host, requests, fill, close };
}

function configuration(folder: string, { password, configuration = '' }: RegistryOptions): string {
  const login = `auth:
  htpasswd:
    realm: test
    path: ${folder}/htpasswd
`;
  return `version: 0.1
log:
  level: info
  formatter: json
storage:
  filesystem:
    rootdirectory: ${folder}/data
http:
  addr: 127.0.0.1:0
  secret: test
${password === true ? login : ''}${configuration}`;
}

/** The port, once it takes connections; from then on its access log goes to `requests`. */
async function listening(child: ChildProcess, requests: string[]): Promise<number> {
  const seen: string[] = [];
  let onPort: (port: number) => void;
  const port = new Promise<number>(resolve => {
    onPort = resolve;
  });
  const onLine = (line: string) => {
    seen.push(line);
    const request = /"((?:GET|HEAD|PUT|POST|PATCH) \/v2\/[^" ]*)/.exec(line)?.[1];
    if (request !== undefined && !line.startsWith('{')) requests.push(request);
    const found = /listening on [^"]*:([0-9]+)/.exec(line)?.[1];
    if (found !== undefined) onPort(Number(found));
  };
  createInterface(child.stdout!).on('line', onLine);
  createInterface(child.stderr!).on('line', onLine);
  const ended = once(child, 'exit').then(() => 'ended' as const);
  const late = AbortSignal.timeout(startTimeoutMs);
  const expired = once(late, 'abort').then(() => 'late' as const);
  const outcome = await Promise.race([port, ended, expired]);
  if (typeof outcome === 'number') return outcome;
  const state = outcome === 'ended' ? 'has ended' : 'does not start';
  throw new Error(`docker-registry ${state}: ${seen.join('\n').slice(-2000)}`);
}

async function killChild(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
