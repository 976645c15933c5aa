/**
 * Progress of a command on stderr: a bar on a terminal, one line a step otherwise, nothing when
 * quiet. The bar's package is loaded only where a bar is shown.
 */

import type { SingleBar } from 'cli-progress';
import { formatBytes } from './format.ts';

export interface Progress {
  /** A new step begins; the one before is done. */
  step(title: string): void;
  /** How far the step is; `totalBytes` undefined if nobody knows. */
  advance(doneBytes: number, totalBytes: number | undefined): void;
  /** Leaves the terminal as it was; before anything else is printed. */
  end(): void;
}

export const noProgress: Progress = { step() {}, advance() {}, end() {} };

export function lineProgress(write: (line: string) => void): Progress {
  return { step: title => write(`${title}\n`), advance() {}, end() {} };
}

export async function barProgress(stream: NodeJS.WriteStream): Promise<Progress> {
  const { default: cliProgress } = await import('cli-progress');
  return new BarProgress(
    () =>
      new cliProgress.SingleBar({
        stream,
        format: '{title} {bar} {done}{total}',
        barCompleteChar: '█',
        barIncompleteChar: '░',
        barsize: 30,
        hideCursor: true,
        clearOnComplete: true,
        fps: 8,
        gracefulExit: false,
        noTTYOutput: false,
      }),
  );
}

class BarProgress implements Progress {
  readonly #newBar: () => SingleBar;
  #bar: SingleBar | undefined;
  #title = '';

  constructor(newBar: () => SingleBar) {
    this.#newBar = newBar;
  }

  step(title: string): void {
    this.end();
    this.#title = title;
  }

  advance(doneBytes: number, totalBytes: number | undefined): void {
    const payload = {
      title: this.#title,
      done: formatBytes(doneBytes),
      total: totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`,
    };
    const total = totalBytes ?? 0;
    if (this.#bar === undefined) {
      this.#bar = this.#newBar();
      this.#bar.start(total, doneBytes, payload);
    } else {
      this.#bar.setTotal(total);
      this.#bar.update(doneBytes, payload);
    }
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
