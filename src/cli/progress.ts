/**
 * Progress of a command on stderr: a bar on a terminal, one line a step otherwise, nothing when
 * quiet. The bar's package is loaded only where a bar is shown.
 */

import type { SingleBar } from 'cli-progress';
import { formatBytes } from './format.ts';

const barCells = 30;

export interface Progress {
  /** A new step begins; the one before is done. */
  step(title: string): void;
  /** How far the step is. Without a total the bar shows `share`, 0 to 1, or is left out. */
  advance(doneBytes: number, totalBytes: number | undefined, share?: number): void;
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
        format: (_options, { progress }, { title, share, done }) =>
          share === undefined ? `${title}  ${done}` : `${title} ${drawBar(progress)} ${done}`,
        hideCursor: true,
        clearOnComplete: true,
        fps: 8,
        gracefulExit: false,
        noTTYOutput: false,
      }),
  );
}

function drawBar(share: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * barCells);
  return '█'.repeat(full) + '░'.repeat(barCells - full);
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

  advance(doneBytes: number, totalBytes: number | undefined, share?: number): void {
    const known = totalBytes === undefined ? share : doneBytes / Math.max(totalBytes, 1);
    const total = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`;
    const done = `${formatBytes(doneBytes)}${total}`;
    const payload = { title: this.#title, share: known, done };
    if (this.#bar === undefined) {
      this.#bar = this.#newBar();
      this.#bar.start(1, known ?? 0, payload);
    } else this.#bar.update(known ?? 0, payload);
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
