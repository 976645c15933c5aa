/** What an image of the corpus is: its versions, what they are made of, and its first real work. */

export type ImageName =
  | 'base'
  | 'python'
  | 'python-sci'
  | 'pandas'
  | 'torch'
  | 'django'
  | 'node'
  | 'nginx'
  | 'php'
  | 'ruby'
  | 'redis'
  | 'postgres'
  | 'gcc'
  | 'rust'
  | 'go'
  | 'openjdk'
  | 'big';

/** An image's name alone means its current version. */
export type VersionName = ImageName | `${ImageName}:${string}`;

export interface ImageDefinition {
  hello: Hello;
  current: VersionDefinition;
  /** The others, by what follows the image's name and a colon. */
  versions?: Readonly<Record<string, OtherVersion>>;
}

export interface VersionDefinition {
  /** The version whose layers lie below and whose config is amended; a base has none. */
  from?: VersionName;
  layers: readonly LayerDefinition[];
  config: ConfigDefinition;
  /** How many of the top layers below are left off, as when an image is built again from there. */
  withoutTop?: number;
  /** Of a base; those above it have the same. */
  archive?: ArchiveDefinition;
}

export interface OtherVersion extends VersionDefinition {
  /** How it differs from the current version, and when that happens. */
  stands: string;
}

export interface LayerDefinition {
  /** Debian packages, installed with what they depend on and without what they recommend. */
  packages?: readonly string[];
  /** A folder of `npm/`: what its lock file names is installed in /app. */
  npm?: string;
  /** Run by `sh -eu` inside of the image, after the packages. */
  script?: string;
}

export interface ConfigDefinition {
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env?: readonly string[];
  user?: string;
  workingDir?: string;
  exposedPorts?: readonly string[];
}

/** Which state of Debian; by default this machine's release with its updates, as of today. */
export interface ArchiveDefinition {
  codename?: string;
  /** Whether security and other updates since the last point release are in it. */
  updates?: boolean;
  /** Times of installed files are so many days earlier, as if it had been built then. */
  daysEarlier?: number;
}

/** As in HelloBench: a start is over when the program has done its first real work. */
export interface Hello {
  /** Given to the entry point in place of the image's Cmd. */
  args?: readonly string[];
  done: Done;
}

/** Ports are those of 127.0.0.1; containers are on the host's network. */
export type Done =
  /** The program prints a line with this text. */
  | { by: 'line'; text: string }
  /** GET is answered with a body that has this text. */
  | { by: 'http'; port: number; path: string; text: string }
  /** What is sent to the port, if anything, is answered with this text. Both are bytes as latin1. */
  | { by: 'tcp'; port: number; send?: string; text: string };

/** The same layers and config upon another version of what lies below. */
export function upon(
  from: VersionName,
  { layers, config }: VersionDefinition,
  stands: string,
): OtherVersion {
  return { stands, from, layers, config };
}

/** What versions upon `base:NAME` stand for. */
export const standsFor = {
  unpatched: 'the last point release without the security and other updates since',
  rebuilt: 'the same packages, installed on another day: only times differ',
  trixie: 'Debian 13: another release of everything',
} as const;
