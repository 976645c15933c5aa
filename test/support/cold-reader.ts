/**
 * Reads files past the kernel's page cache and compares them, in a process of its own with threads
 * enough that a read that hangs holds up no other. Nothing hangs here: every read has a deadline.
 */

import { constants } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';
import { answerCalls, RemoteProcess } from './remote-calls.ts';

export interface ColdReadResult {
  /** `late`: it was not done at its deadline. Otherwise the error's code. */
  outcome: 'right' | 'wrong' | 'late' | (string & {});
  waitMs: number;
}

const threads = 128;
/** posix_fadvise(2). */
const willNotNeed = 4;

export class ColdReader {
  readonly #process = new RemoteProcess(import.meta.filename, { UV_THREADPOOL_SIZE: `${threads}` });

  /** The whole file, against the file at `truth`, which is read once and kept. */
  async read(path: string, truth: string, deadlineMs: number): Promise<ColdReadResult> {
    return (await this.#process.call('read', path, truth, deadlineMs)) as ColdReadResult;
  }

  close(): Promise<void> {
    return this.#process.close();
  }
}

function main(): void {
  const libc = koffi.load(null);
  const advise = libc.func('int posix_fadvise(int, int64_t, int64_t, int)');
  const truths = new Map<string, Promise<Buffer>>();
  const truthOf = (path: string) => {
    const truth = truths.get(path) ?? readFile(path);
    truths.set(path, truth);
    return truth;
  };

  const readCold = async (path: string): Promise<Buffer> => {
    const file = await open(path, constants.O_RDONLY);
    try {
      advise(file.fd, 0, 0, willNotNeed);
      return await file.readFile();
    } finally {
      await file.close();
    }
  };

  answerCalls({
    async read(path: string, truth: string, deadlineMs: number): Promise<ColdReadResult> {
      const expected = await truthOf(truth);
      const beganMs = performance.now();
      const late = new AbortController();
      const outcome = await Promise.race([
        readCold(path).then(
          bytes => (bytes.equals(expected) ? 'right' : 'wrong'),
          (error: NodeJS.ErrnoException) => error.code ?? String(error),
        ),
        sleep(deadlineMs, 'late', { signal: late.signal }).catch(() => 'late'),
      ]);
      late.abort();
      return { outcome, waitMs: performance.now() - beganMs };
    },
  });
}

if (import.meta.main) main();
