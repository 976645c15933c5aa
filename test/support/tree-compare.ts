/**
 * Compares two directory trees in all that a file system keeps of them: the judge of every path by
 * which an image's files can come back. Names are compared as bytes.
 *
 * The comparison runs on a thread of its own, with plain blocking calls there: the thread of the
 * test stays free to serve what the trees depend on.
 */

import { Worker } from 'node:worker_threads';

export type Field =
  /** There on one side only. */
  | 'entry'
  | 'type'
  /** The twelve permission bits. */
  | 'mode'
  | 'uid'
  | 'gid'
  /** In nanoseconds. */
  | 'mtime'
  /** Of regular files and symlinks: what a directory's size means differs between file systems. */
  | 'size'
  | 'links'
  /** Which paths are the same inode. */
  | 'hard-link'
  | 'target'
  | 'device'
  /** Extended attributes of every namespace. */
  | 'xattr'
  | 'content';

/** Differences of this field, or at this path, or both if both are given, are left out. */
export interface Ignored {
  field?: Field;
  /** As differences show it: below the tree without a leading slash; `.` is the tree's root. */
  path?: string;
}

export interface CompareOptions {
  ignore?: readonly Ignored[];
  /** How many differences are listed at most; one line says if there are more. */
  differencesMax?: number;
}

/** What the worker is started with. */
export interface CompareTask {
  expectedDir: string;
  actualDir: string;
  ignore: readonly Ignored[];
  differencesMax: number;
}

/**
 * The differences as lines of `PATH: FIELD: …`, in the order of the walk; none if the trees are
 * equal. Rejects if one of the trees cannot be read.
 */
export function compareTrees(
  expectedDir: string,
  actualDir: string,
  options: CompareOptions = {},
): Promise<string[]> {
  const task: CompareTask = {
    expectedDir,
    actualDir,
    ignore: options.ignore ?? [],
    differencesMax: options.differencesMax ?? 50,
  };
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./tree-compare-worker.ts', import.meta.url), {
      workerData: task,
    });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', code => reject(new Error(`the comparison ended early (${code})`)));
  });
}
