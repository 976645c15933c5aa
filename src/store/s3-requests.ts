/**
 * One request at a time to an S3 service, through the AWS SDK: bounded in number, in time and in what
 * an answer may hold, ended by the caller's signal, and without retries (those are retrying.ts).
 */

import type { S3Client } from '@aws-sdk/client-s3';
import { Limiter } from '../base/limiter.ts';
import { KiB } from '../base/limits.ts';
import { RetryableFault } from '../base/retry.ts';
import { makeS3Client } from './s3-client.ts';
import { s3Fault } from './s3-fault.ts';
import { formatS3Location, type S3Location } from './s3-location.ts';
import { type ObjectAnswer, type ObjectRequest, ObjectRequests } from './s3-objects.ts';

export interface S3RequestOptions {
  /** Requests, and so connections, at once. Enough for the latency of S3, few for a small service. */
  requestsMax?: number;
  /** From when the request is sent until the answer begins; moving bytes has its own time. */
  answerTimeoutMs?: number;
}

/** What the work of a request needs. */
export interface RequestInHand {
  /** For commands that are not about one object. */
  client: S3Client;
  /** For `client.send`. */
  sending: { abortSignal: AbortSignal };
  send(request: ObjectRequest): Promise<ObjectAnswer>;
  /** Gives time for so many bytes of the answer from now on. */
  allowBytes(sizeBytes: number): void;
}

const requestsMaxDefault = 32;
const answerTimeoutMsDefault = 8000;
/** Slower than this, a connection is as good as broken. */
const rateMinBytesPerMs = (64 * KiB) / 1000;

export class S3Requests {
  readonly #client: S3Client;
  readonly #objects: ObjectRequests;
  readonly #location: S3Location;
  readonly #limiter: Limiter;
  readonly #answerTimeoutMs: number;

  constructor(location: S3Location, options: S3RequestOptions = {}) {
    const requestsMax = options.requestsMax ?? requestsMaxDefault;
    this.#location = location;
    this.#limiter = new Limiter(requestsMax);
    this.#answerTimeoutMs = options.answerTimeoutMs ?? answerTimeoutMsDefault;
    this.#client = makeS3Client(location, requestsMax);
    this.#objects = new ObjectRequests(this.#client, location.bucket);
  }

  /** `what` is "<do> <what>". Errors: those of s3Fault, and the signal's reason. */
  async run<V>(
    what: string,
    { signal, bodyBytes = 0 }: { signal?: AbortSignal | undefined; bodyBytes?: number },
    work: (request: RequestInHand) => Promise<V>,
  ): Promise<V> {
    await this.#limiter.acquireUnlessAborted(signal);
    const stop = new AbortController();
    const onAbort = () => stop.abort();
    signal?.addEventListener('abort', onAbort, { once: true });
    let waitMs = 0;
    let timer: NodeJS.Timeout | undefined;
    const allow = (timeMs: number) => {
      clearTimeout(timer);
      waitMs = timeMs;
      timer = setTimeout(() => {
        late = true;
        stop.abort();
      }, timeMs);
    };
    let late = false;
    const answerMs = this.#answerTimeoutMs;
    allow(answerMs + bodyBytes / rateMinBytesPerMs);
    try {
      const allowBytes = (sizeBytes: number) => allow(answerMs + sizeBytes / rateMinBytesPerMs);
      return await work({
        client: this.#client,
        sending: { abortSignal: stop.signal },
        send: request => this.#objects.send(request, stop.signal),
        allowBytes,
      });
    } catch (error) {
      signal?.throwIfAborted();
      const context = {
        what: `Cannot ${what} in the store ${formatS3Location(this.#location)}`,
        location: this.#location,
        nowMs: Date.now(),
      };
      if (late) throw tooLate(context.what, waitMs);
      throw s3Fault(error, context);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      this.#limiter.release();
    }
  }
}

function tooLate(what: string, waitMs: number): RetryableFault {
  const seconds = Math.round(waitMs / 100) / 10;
  return new RetryableFault(`${what}: no answer within ${seconds} s`, {
    hint: 'The service or the way to it is too slow: run it again later.',
  });
}
