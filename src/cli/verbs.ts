/** Every verb and its file, loaded when it is called. */

import type { Command } from './command.ts';

export const verbs: Readonly<Record<string, () => Promise<{ command: Command }>>> = {
  push: () => import('./push.ts'),
  mount: () => import('./mount.ts'),
  umount: () => import('./umount.ts'),
  run: () => import('./run.ts'),
  ls: () => import('./ls.ts'),
  inspect: () => import('./inspect.ts'),
  stats: () => import('./stats.ts'),
  mounts: () => import('./mounts.ts'),
  verify: () => import('./verify.ts'),
  export: () => import('./export.ts'),
  rm: () => import('./rm.ts'),
  gc: () => import('./gc.ts'),
  key: () => import('./key.ts'),
  daemon: () => import('./daemon.ts'),
};
