/**
 * One request at a time to an S3 service, through the AWS SDK: bounded in number, in time and in what
 * an answer may hold, ended by the caller's signal, and without retries (those are retrying.ts).
 */

import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { pipeline, Readable, Transform } from 'node:stream';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { ImgstoreError } from '../base/errors.ts';
import { Limiter } from '../base/limiter.ts';
import { KiB, MiB } from '../base/limits.ts';
import { RetryableFault } from '../base/retry.ts';
import { s3Fault } from './s3-fault.ts';
import { formatS3Location, type S3Location } from './s3-location.ts';

export interface S3RequestOptions {
  /** Requests, and so connections, at once. Enough for the latency of S3, few for a small service. */
  requestsMax?: number;
  /** From when the request is sent until the answer begins; moving bytes has its own time. */
  answerTimeoutMs?: number;
}

/** What the work of a request needs. */
export interface RequestInHand {
  client: S3Client;
  /** For `client.send`. */
  sending: { abortSignal: AbortSignal };
  /** Gives time for so many bytes of the answer from now on. */
  allowBytes(sizeBytes: number): void;
}

/** What the SDK hands to its middleware. */
interface HttpAnswer {
  statusCode: number;
  headers: Readonly<Record<string, string>>;
  body: unknown;
}

const requestsMaxDefault = 32;
const answerTimeoutMsDefault = 15_000;
/** Slower than this, a connection is as good as broken. */
const rateMinBytesPerMs = (64 * KiB) / 1000;
const regionDefault = 'us-east-1';
/** A page of 1000 keys of 1024 bytes, each byte escaped twice, is below. */
const documentSizeMaxBytes = 16 * MiB;

export class S3Requests {
  readonly #client: S3Client;
  readonly #location: S3Location;
  readonly #limiter: Limiter;
  readonly #answerTimeoutMs: number;

  constructor(location: S3Location, options: S3RequestOptions = {}) {
    const requestsMax = options.requestsMax ?? requestsMaxDefault;
    this.#location = location;
    this.#limiter = new Limiter(requestsMax);
    this.#answerTimeoutMs = options.answerTimeoutMs ?? answerTimeoutMsDefault;
    const agent = { keepAlive: true, maxSockets: requestsMax, scheduling: 'lifo' } as const;
    this.#client = new S3Client({
      ...endpointAndRegion(location),
      maxAttempts: 1,
      requestHandler: { httpAgent: new HttpAgent(agent), httpsAgent: new HttpsAgent(agent) },
      // The signature covers the SHA-256 of a body, which the service checks; ids and seals cover
      // what comes back. The SDK's own CRCs would be a third, and not every service knows them.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // The SDK would open a connection for each.
      expectContinueHeader: false,
    });
    this.#boundAnswers();
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

  /** The SDK gathers documents and errors whole before it looks at them, however long they are. */
  #boundAnswers(): void {
    this.#client.middlewareStack.add(
      (next, { commandName }) =>
        async args => {
          const result = await next(args);
          const response = result.response as HttpAnswer;
          const isObject = commandName === 'GetObjectCommand' && response.statusCode === 200;
          // A stated length holds; a gate on every body would cost 5 % of a request's time.
          const isSmall = Number(response.headers['content-length']) <= documentSizeMaxBytes;
          if (!isObject && !isSmall && response.body instanceof Readable) {
            response.body = limited(response.body, documentSizeMaxBytes);
          }
          return result;
        },
      { step: 'deserialize', priority: 'low', name: 'imgstoreBoundAnswers' },
    );
  }
}

/** A service of one's own has no host name for each bucket, and takes any region. */
function endpointAndRegion({ endpoint, region }: S3Location): S3ClientConfig {
  if (endpoint === undefined) return region === undefined ? {} : { region };
  const settings = new S3Client({});
  let configured: Promise<string> | undefined;
  const regionOfSettings = () => {
    configured ??= settings.config.region().catch(() => regionDefault);
    return configured;
  };
  return { endpoint, region: region ?? regionOfSettings, forcePathStyle: true };
}

function tooLate(what: string, waitMs: number): RetryableFault {
  const seconds = Math.round(waitMs / 100) / 10;
  return new RetryableFault(`${what}: no answer within ${seconds} s`, {
    hint: 'The service or the way to it is too slow: run it again later.',
  });
}

function limited(body: Readable, sizeMaxBytes: number): Readable {
  let sizeBytes = 0;
  const gate = new Transform({
    transform(piece: Buffer, _encoding, done) {
      sizeBytes += piece.length;
      if (sizeBytes <= sizeMaxBytes) return done(null, piece);
      done(
        new ImgstoreError('LIMIT', `Cannot read an answer of S3: more than ${sizeMaxBytes} bytes`),
      );
    },
  });
  // The gate's reader gets the error.
  return pipeline(body, gate, () => {});
}
