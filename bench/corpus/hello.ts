/**
 * When a start is over, in HelloBench's manner (Harter et al., FAST 2016): the program has printed
 * its line, served its page or answered its query. Who waits asks often, and asks of the host, so
 * that the image needs no client.
 */

import type { ChildProcess } from 'node:child_process';
import { connect } from 'node:net';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Done } from './definition.ts';

const pollMs = 3;
const answerTimeoutMs = 30_000;

/** Resolves when it is done; rejects if the program ends before, or after `timeoutMs`. */
export async function helloDone(
  done: Done,
  child: ChildProcess,
  options: { timeoutMs: number },
): Promise<void> {
  const over = new AbortController();
  const said = new Lines(child);
  try {
    await Promise.race([
      done.by === 'line' ? said.find(done.text) : answered(done, over.signal),
      ended(child, done, said),
      sleep(options.timeoutMs, undefined, { signal: over.signal }).then(() => {
        throw new Error(`not done after ${options.timeoutMs} ms: ${said.tail()}`);
      }),
    ]);
  } finally {
    over.abort();
  }
}

/** For servers, that a process ends is the failure; a line may be its last. */
async function ended(child: ChildProcess, done: Done, said: Lines): Promise<never> {
  const status = await new Promise(resolve => {
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  if (done.by === 'line' && said.has(done.text)) return await new Promise(() => {});
  throw new Error(`ended with ${status} before it was done: ${said.tail()}`);
}

class Lines {
  #text = '';
  #onText: () => void = () => {};

  constructor({ stdout, stderr }: ChildProcess) {
    for (const stream of [stdout, stderr]) this.#listen(stream);
  }

  #listen(stream: Readable | null): void {
    stream?.on('data', (bytes: Buffer) => {
      this.#text = (this.#text + bytes.toString('latin1')).slice(-100_000);
      this.#onText();
    });
  }

  find(text: string): Promise<void> {
    return new Promise(resolve => {
      this.#onText = () => {
        if (this.has(text)) resolve();
      };
      this.#onText();
    });
  }

  has(text: string): boolean {
    return this.#text.includes(text);
  }

  tail(): string {
    return this.#text.slice(-500);
  }
}

async function answered(
  done: Extract<Done, { by: 'http' | 'tcp' }>,
  signal: AbortSignal,
): Promise<void> {
  const { port, text } = done;
  const send =
    done.by === 'tcp'
      ? (done.send ?? '')
      : `GET ${done.path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`;
  while (!(await asked(port, send, text))) {
    signal.throwIfAborted();
    await sleep(pollMs, undefined, { signal });
  }
}

/** One connection: false if it is refused, or closed without the text. */
function asked(port: number, send: string, text: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port });
    let received = '';
    socket.setTimeout(answerTimeoutMs, () => socket.destroy());
    socket.on('connect', () => socket.write(send, 'latin1'));
    socket.on('data', bytes => {
      received += bytes.toString('latin1');
      if (received.includes(text)) socket.destroy();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(received.includes(text)));
  });
}
