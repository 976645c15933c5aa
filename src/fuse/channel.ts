/**
 * The descriptor of one FUSE connection: requests in, replies and notifications out.
 *
 * One thread of libuv's pool waits in poll(2) while nothing happens; requests are read without
 * blocking, on the event loop, until none is left. Against threads that wait in read(2), as many as
 * requests may be served at once, this holds one thread, takes a burst of requests in one turn, and
 * can be stopped: a thread in read(2) cannot be woken, and process.exit waits for it for ever.
 */

import { closeSync, writeSync, writev, writevSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { describeError, errnoOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { RequestHead } from './dispatcher.ts';
import { errno, notifyCode, replyHeader, requestSizeMaxBytes } from './format.ts';
import { openEvent, Poll, readOrErrno } from './system-calls.ts';

/** Requests served before timers and sockets get their turn; the largest take 0.2 ms each. */
const requestsPerTurn = 16;

/**
 * Turns of the event loop that look for the next request before a thread waits for it: about 40 µs
 * in sum. A process that reads step by step asks again within 20 µs, and waking a thread takes
 * longer than that: 85 µs a read fall to 20. With one processor it would only delay the asker.
 */
const idleTurns = availableParallelism() > 1 ? 32 : 0;

/** writev(2) takes no more than 1024. */
const slicesMax = 1023;

export interface ChannelOptions {
  /** Of /dev/fuse, opened non-blocking. It is closed when the channel is. */
  fd: number;
  handle(request: Buffer, lengthBytes: number): void;
  log: Log;
}

export class Channel {
  /** Resolves when nothing is read any more: the connection is gone, or `stop` was called. */
  readonly ended: Promise<void>;
  readonly #end: () => void;
  readonly #fd: number;
  readonly #handle: ChannelOptions['handle'];
  readonly #log: Log;
  readonly #request = Buffer.allocUnsafeSlow(requestSizeMaxBytes);
  readonly #header = Buffer.alloc(replyHeader.sizeBytes);
  readonly #wakeFd = openEvent();
  readonly #poll: Poll;
  readonly #onExit = (): void => this.#wake();
  /** Notifications on their way; the descriptor must stay theirs until they are through. */
  readonly #notifying = new Set<Promise<void>>();
  #idle = 0;
  #state: 'new' | 'reading' | 'stopping' | 'ended' = 'new';

  constructor({ fd, handle, log }: ChannelOptions) {
    this.#fd = fd;
    this.#handle = handle;
    this.#log = log;
    this.#poll = new Poll([fd, this.#wakeFd]);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
  }

  start(): void {
    this.#state = 'reading';
    process.on('exit', this.#onExit);
    this.#wait();
  }

  /** Stops reading and closes the descriptor. What was read and not answered stays unanswered. */
  async stop(): Promise<void> {
    if (this.#state === 'new') void this.#finish();
    if (this.#state === 'reading') {
      this.#state = 'stopping';
      this.#wake();
    }
    await this.ended;
  }

  /** Answers a request, at once; whoever asked may have gone. `error` is 0 or an errno. */
  reply(head: RequestHead, error: number, body: readonly Uint8Array[]): void {
    if (this.#state === 'ended') return;
    let lengthBytes = replyHeader.sizeBytes;
    for (const slice of body) lengthBytes += slice.length;
    const header = this.#header;
    header.writeUInt32LE(lengthBytes, replyHeader.length);
    header.writeInt32LE(-error, replyHeader.error);
    header.writeUInt32LE(head.uniqueLow, replyHeader.unique);
    header.writeUInt32LE(head.uniqueHigh, replyHeader.unique + 4);
    const slices = body.length > slicesMax ? [Buffer.concat(body)] : body;
    try {
      writevSync(this.#fd, [header, ...slices]);
    } catch (failure) {
      // ENOENT: nobody waits for it any more.
      if (errnoOf(failure) === 'ENOENT') return;
      this.#log('error', `Cannot answer the kernel: ${describeError(failure)}`);
    }
  }

  /** Asks the kernel to send again what was read from this connection and never answered. */
  resend(): void {
    writeSync(this.#fd, notification(notifyCode.resend, 0));
  }

  /**
   * Tells the kernel something. Not on the event loop: it may take the lock of a directory that a
   * look-up holds, which this process has yet to answer. Rejects with ENOENT if there is nothing.
   */
  async notify(code: number, payload: Buffer): Promise<void> {
    if (this.#state !== 'reading') return;
    const header = notification(code, payload.length);
    const written = new Promise<void>((resolve, reject) => {
      writev(this.#fd, [header, payload], error => (error === null ? resolve() : reject(error)));
    });
    this.#notifying.add(written);
    await written.finally(() => this.#notifying.delete(written));
  }

  #wait(): void {
    this.#idle = 0;
    // On a turn of its own, so that what is thrown below surfaces as any other exception does.
    this.#poll.wait(() => setImmediate(this.#drain));
  }

  readonly #drain = (): void => {
    for (let i = 0; i < requestsPerTurn; i++) {
      if (this.#state !== 'reading') break;
      const result = readOrErrno(this.#fd, this.#request);
      if (result >= 0) {
        this.#idle = 0;
        this.#handle(this.#request, result);
      } else if (result === -errno.EAGAIN) {
        if (this.#idle++ < idleTurns) break;
        this.#wait();
        return;
      } else if (result !== -errno.ENOENT && result !== -errno.EINTR) {
        this.#readFailed(-result);
      }
    }
    if (this.#state === 'reading') setImmediate(this.#drain);
    else void this.#finish();
  };

  #readFailed(number: number): void {
    this.#state = 'stopping';
    if (number === errno.ENODEV || number === errno.ECONNABORTED) return;
    this.#log('error', `Cannot read the kernel's requests: errno ${number}`);
  }

  async #finish(): Promise<void> {
    this.#state = 'ended';
    process.off('exit', this.#onExit);
    await Promise.allSettled(this.#notifying);
    closeSync(this.#fd);
    closeSync(this.#wakeFd);
    this.#end();
  }

  /** Ends a poll: also at the end of the process, which waits for all threads of the pool. */
  #wake(): void {
    const one = Buffer.alloc(8);
    one.writeUInt8(1);
    writeSync(this.#wakeFd, one);
  }
}

function notification(code: number, payloadBytes: number): Buffer {
  const header = Buffer.alloc(replyHeader.sizeBytes);
  header.writeUInt32LE(replyHeader.sizeBytes + payloadBytes, replyHeader.length);
  header.writeInt32LE(code, replyHeader.error);
  return header;
}
