/**
 * The OCI runtime config of one run: the image's process in fresh pid, ipc, uts and mount
 * namespaces on the host's network, with the capabilities that Docker grants by default.
 * Source of the format: OCI runtime spec 1.0.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import type { ImageConfig } from './image-config.ts';
import type { ContainerUser } from './user.ts';

const capabilities = [
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP',
  'NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE',
].flatMap(line => line.split(' ').map(name => `CAP_${name}`));

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
];

const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export interface ContainerOptions {
  /** Absolute; writable. */
  rootDirectory: string;
  config: ImageConfig;
  /** Replaces the image's Cmd, as `docker run IMAGE ARG…` does; empty: the image's own. */
  command: readonly string[];
  user: ContainerUser;
  terminal: boolean;
  /** Host files that the container sees, read-only, at the same path. */
  sharedFiles: readonly string[];
}

/** Entrypoint and command joined; an image with neither cannot be run without a command. */
export function processArguments(config: ImageConfig, command: readonly string[]): string[] {
  const args = [...config.entrypoint, ...(command.length > 0 ? command : config.command)];
  if (args.length > 0) return args;
  throw new ImgstoreError('USAGE', 'Cannot run the image: it names no program to start', {
    hint: 'Give one: imgstore run NAME -- PROGRAM ARGUMENT…',
  });
}

export function runtimeConfig(options: ContainerOptions): object {
  const { config, user } = options;
  const mount = (destination: string, type: string, ...mountOptions: string[]) => ({
    destination,
    type,
    source: destination === '/dev/shm' ? 'shm' : type,
    options: mountOptions,
  });
  return {
    ociVersion: '1.0.0',
    process: {
      terminal: options.terminal,
      user: { uid: user.uid, gid: user.gid, additionalGids: [...user.additionalGids] },
      args: processArguments(config, options.command),
      env: environment(options),
      cwd: config.workingDirectory,
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
      },
      noNewPrivileges: false,
    },
    root: { path: options.rootDirectory, readonly: false },
    hostname: 'imgstore',
    mounts: [
      mount('/proc', 'proc', 'nosuid', 'noexec', 'nodev'),
      mount('/dev', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', 'size=65536k'),
      mount('/dev/pts', 'devpts', 'nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'),
      mount('/dev/shm', 'tmpfs', 'nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
      mount('/dev/mqueue', 'mqueue', 'nosuid', 'noexec', 'nodev'),
      mount('/sys', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'),
      ...options.sharedFiles.map(path => ({
        destination: path,
        type: 'bind',
        source: path,
        options: ['bind', 'ro', 'nosuid', 'nodev'],
      })),
    ],
    linux: {
      namespaces: ['pid', 'ipc', 'uts', 'mount'].map(type => ({ type })),
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      maskedPaths,
      readonlyPaths,
    },
  };
}

/** Where a program without a slash is looked for. */
export function searchPath({ environment }: ImageConfig): string {
  const entry = environment.findLast(text => text.startsWith('PATH=')) ?? defaultPath;
  return entry.slice('PATH='.length);
}

function environment({ config, user, terminal }: ContainerOptions): string[] {
  const has = (name: string) => config.environment.some(entry => entry.startsWith(`${name}=`));
  return [
    ...(has('PATH') ? [] : [defaultPath]),
    ...(has('HOME') ? [] : [`HOME=${user.home ?? '/'}`]),
    ...(terminal && !has('TERM') ? ['TERM=xterm'] : []),
    ...config.environment,
  ];
}

export async function writeBundle(directory: string, options: ContainerOptions): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const text = JSON.stringify(runtimeConfig(options));
  await writeFile(join(directory, 'config.json'), text, { mode: 0o600 });
}
