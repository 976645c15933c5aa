/**
 * Who we are to a registry: what `docker login`, `podman login` and `skopeo login` have left. Files
 * are asked in the order of containers-auth.json(5); in each, a helper for the host comes first, then
 * the entry of the longest prefix of the repository, then the helper for everything.
 *
 * Invariant: nothing of what is read here enters a message.
 */

import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../../base/errors.ts';
import { MiB } from '../../base/limits.ts';
import { isObject, type JsonObject } from '../source/json.ts';
import { askHelper, type HelperAnswer } from './credential-helper.ts';
import { dockerHub, type RegistryReference } from './reference.ts';

export type Credential =
  | { kind: 'password'; username: string; password: string }
  /** Exchanged for an access token by POST. */
  | { kind: 'identity-token'; token: string }
  /** Sent as it is. */
  | { kind: 'registry-token'; token: string };

export interface LookupOptions {
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
}

const fileSizeMaxBytes = 4 * MiB;
/** Docker files the Hub under the address of an API that is long gone. */
const dockerHubKey = 'https://index.docker.io/v1/';

/** Undefined if nobody has logged in. USAGE if a file is malformed, UNAVAILABLE if a helper fails. */
export async function findCredential(
  { host, repository }: Pick<RegistryReference, 'host' | 'repository'>,
  options: LookupOptions,
): Promise<Credential | undefined> {
  for (const { path, isAsked } of authFiles(options.env)) {
    const file = await readAuthFile(path, isAsked);
    const found = file && (await findIn(file, host, repository, options));
    if (found !== undefined) return found;
  }
  return undefined;
}

function authFiles(env: NodeJS.ProcessEnv): { path: string; isAsked: boolean }[] {
  const home = env['HOME'] || homedir();
  const asked = env['REGISTRY_AUTH_FILE'];
  const runtime = env['XDG_RUNTIME_DIR'] || `/run/containers/${process.getuid?.() ?? 0}`;
  const docker = env['DOCKER_CONFIG'] || join(home, '.docker');
  return [
    asked
      ? { path: asked, isAsked: true }
      : { path: join(runtime, 'containers/auth.json'), isAsked: false },
    { path: join(docker, 'config.json'), isAsked: false },
  ];
}

/** Undefined if it is not there, which is an error only if it was asked for. */
async function readAuthFile(path: string, isAsked: boolean): Promise<JsonObject | undefined> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const isAbsent = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR';
    if (isAbsent && !isAsked) return undefined;
    throw ioError(`Cannot read the credentials in ${path}`, error);
  }
  let document: unknown;
  try {
    document = bytes.length > fileSizeMaxBytes ? undefined : JSON.parse(bytes.toString());
  } catch {
    document = undefined; // the parser's own message quotes the text
  }
  if (isObject(document)) return document;
  throw new ImgstoreError(
    'USAGE',
    `Cannot read the credentials in ${path}: it is not a JSON object`,
    {
      hint: 'Log in again, which writes it anew.',
    },
  );
}

async function findIn(
  file: JsonObject,
  host: string,
  repository: string,
  options: LookupOptions,
): Promise<Credential | undefined> {
  const helpers = isObject(file['credHelpers']) ? file['credHelpers'] : {};
  const asked = host === dockerHub ? dockerHubKey : host;
  const helper = Object.entries(helpers).find(([key]) => normalizeKey(key) === host)?.[1];
  if (typeof helper === 'string' && helper !== '') {
    return credentialOf(await askHelper(helper, asked, options));
  }
  const filed = findEntry(isObject(file['auths']) ? file['auths'] : {}, host, repository);
  if (filed !== undefined) return filed;
  const store = file['credsStore'];
  if (typeof store !== 'string' || store === '') return undefined;
  return credentialOf(await askHelper(store, asked, options));
}

function credentialOf(answer: HelperAnswer | undefined): Credential | undefined {
  if (answer === undefined) return undefined;
  const { username, secret } = answer;
  if (username === '<token>') return { kind: 'identity-token', token: secret };
  return { kind: 'password', username, password: secret };
}

/** `HOST/a/b` before `HOST/a` before `HOST`. */
function findEntry(auths: JsonObject, host: string, repository: string): Credential | undefined {
  const entries = new Map<string, unknown>();
  for (const [key, entry] of Object.entries(auths)) {
    const normalized = normalizeKey(key);
    if (!entries.has(normalized) || key === normalized) entries.set(normalized, entry);
  }
  for (let name = `${host}/${repository}`; ; name = name.slice(0, name.lastIndexOf('/'))) {
    const entry = entries.get(name);
    const credential = isObject(entry) ? parseEntry(entry) : undefined;
    if (credential !== undefined || name === host) return credential;
  }
}

/** `https://HOST/v1/` → `HOST`, and one name for the Hub. */
function normalizeKey(key: string): string {
  const bare = key.replace(/^https?:\/\//, '').replace(/(?:\/v[12])?\/?$/, '');
  const hub = /^(?:index\.docker\.io|registry-1\.docker\.io)(?=\/|$)/;
  return bare.replace(hub, dockerHub);
}

/** With `credsStore`, docker leaves an empty entry for every host. */
function parseEntry(entry: JsonObject): Credential | undefined {
  const { auth, identitytoken, registrytoken, username, password } = entry;
  if (typeof identitytoken === 'string' && identitytoken !== '') {
    return { kind: 'identity-token', token: identitytoken };
  }
  if (typeof registrytoken === 'string' && registrytoken !== '') {
    return { kind: 'registry-token', token: registrytoken };
  }
  if (typeof auth === 'string' && auth !== '') {
    const text = Buffer.from(auth, 'base64').toString();
    const colon = text.indexOf(':');
    if (colon <= 0) return undefined;
    // Docker pads what it writes with NUL.
    const decoded = text.slice(colon + 1).replace(/\0+$/, '');
    return { kind: 'password', username: text.slice(0, colon), password: decoded };
  }
  if (typeof username !== 'string' || typeof password !== 'string' || username === '') {
    return undefined;
  }
  return { kind: 'password', username, password };
}
