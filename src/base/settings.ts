/**
 * Where this program keeps things and how much it may use: flags, then the environment, then
 * config.json in the home, then defaults.
 */

import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from './errors.ts';
import { diskCacheSizeMinBytes, GiB, KiB, MiB, memoryCacheSizeMinBytes } from './limits.ts';

/** Not by `import`, which reads every export of the module: 3 ms of each command's start. */
const { readFileSync, realpathSync } = process.getBuiltinModule('node:fs');

export interface Settings {
  /** Absolute and without symlinks, as the kernel's table of mounts has paths. */
  home: string;
  /** A URL, or an absolute path. */
  store: string;
  keysDirectory: string;
  cacheDirectory: string;
  runDirectory: string;
  /** Sealed chunks on this worker's disk. */
  diskCacheMaxBytes: number;
  /** Decoded chunks in the daemon's memory. */
  memoryCacheMaxBytes: number;
  /** The servers of the shared cache as they are written; undefined without one. */
  fleet: WrittenSetting | undefined;
  /** HOST:PORT at which the daemon serves its metrics, as it is written; undefined: nowhere. */
  metrics: WrittenSetting | undefined;
}

/** Where it is used it is parsed; `source` is for the message if it is wrong. */
export interface WrittenSetting {
  text: string;
  source: string;
}

const configSizeMaxBytes = 64 * KiB;
const diskCacheDefaultBytes = 10 * GiB;
const memoryCacheDefaultBytes = 256 * MiB;

export interface SettingFlags {
  home?: string | undefined;
  store?: string | undefined;
}

/** Errors: USAGE where config.json or a variable is wrong. */
export function loadSettings(flags: SettingFlags, env: NodeJS.ProcessEnv): Settings {
  for (const [name, value] of Object.entries(flags)) {
    if (value === '') throw emptyFlag(name);
  }
  const home = realPath(resolve(flags.home ?? (env['IMGSTORE_HOME'] || defaultHome(env))));
  const configPath = join(home, 'config.json');
  const config = readConfig(configPath);
  const given = flags.store ?? (env['IMGSTORE_STORE'] || undefined);
  return {
    home,
    store: given === undefined ? location(config.store ?? 'store', home) : location(given, '.'),
    keysDirectory: join(home, 'keys'),
    cacheDirectory: join(home, 'cache'),
    runDirectory: join(home, 'run'),
    diskCacheMaxBytes: config.diskCacheMaxBytes ?? diskCacheDefaultBytes,
    memoryCacheMaxBytes: config.memoryCacheMaxBytes ?? memoryCacheDefaultBytes,
    fleet: written('fleet', env, config, configPath),
    metrics: written('metrics', env, config, configPath),
  };
}

function written(
  name: 'fleet' | 'metrics',
  env: NodeJS.ProcessEnv,
  config: Config,
  configPath: string,
): WrittenSetting | undefined {
  const variable = `IMGSTORE_${name.toUpperCase()}`;
  const text = env[variable];
  if (text) return { text, source: variable };
  // Set and empty: without the one of the file.
  if (text !== undefined || config[name] === undefined) return undefined;
  return { text: config[name], source: configPath };
}

/** The daemon has another working directory, so a path must not depend on it. */
function location(store: string, base: string): string {
  return /^[a-z][a-z0-9+.-]*:/i.test(store) ? store : resolve(base, store);
}

/** Of a path that need not exist yet. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPath(parent), basename(path));
  }
}

function emptyFlag(name: string): ImgstoreError {
  return new ImgstoreError('USAGE', `Cannot use --${name}: it is empty`, {
    hint: 'Give it a value, or leave it out.',
  });
}

function defaultHome(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/imgstore';
  return join(env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share'), 'imgstore');
}

interface Config {
  store?: string;
  fleet?: string;
  metrics?: string;
  diskCacheMaxBytes?: number;
  memoryCacheMaxBytes?: number;
}

function readConfig(path: string): Config {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return {};
    throw ioError(`Cannot read ${path}`, error);
  }
  let document: unknown;
  try {
    document = text.length > configSizeMaxBytes ? undefined : JSON.parse(text);
  } catch {
    document = undefined;
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw wrong(path, 'it is not a JSON object');
  }
  return checkConfig(path, document as Record<string, unknown>);
}

function checkConfig(path: string, document: Record<string, unknown>): Config {
  const config: Config = {};
  for (const [name, value] of Object.entries(document)) {
    if (name === 'store' || name === 'fleet' || name === 'metrics') {
      if (typeof value !== 'string' || value === '') throw wrong(path, `${name} is not a text`);
      config[name] = value;
    } else if (name === 'diskCacheMaxBytes' || name === 'memoryCacheMaxBytes') {
      if (!Number.isSafeInteger(value)) throw wrong(path, `${name} is not a number of bytes`);
      const min = name === 'diskCacheMaxBytes' ? diskCacheSizeMinBytes : memoryCacheSizeMinBytes;
      if ((value as number) < min) throw wrong(path, `${name} is below ${min}`);
      config[name] = value as number;
    } else {
      throw wrong(path, `it has an unknown setting ${JSON.stringify(name)}`);
    }
  }
  return config;
}

function wrong(path: string, state: string): ImgstoreError {
  return new ImgstoreError('USAGE', `Cannot use ${path}: ${state}`, {
    hint: 'Known settings are store, fleet, metrics, diskCacheMaxBytes and memoryCacheMaxBytes.',
  });
}
