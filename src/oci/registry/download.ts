/**
 * A blob as one stream, over as many connections as it takes: what broke off is asked for from there
 * on (Range). Servers that cannot do that send the whole again, and what is known already is passed
 * over. Nothing is verified here: the digest over all of it is the judge, however it was put together.
 */

import type { OciDigest } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import { MiB } from '../../base/limits.ts';
import { Attempts, type RetryRules } from './attempts.ts';
import type { RegistryClient } from './client.ts';
import { TransientFault, unavailable } from './faults.ts';
import type { HttpAnswer } from './http.ts';

/** For each of these the count of failures begins anew, so requests stay in proportion to the size. */
const progressBytes = 1 * MiB;

export interface DownloadOptions {
  /** "Cannot <do> <what>", for messages. */
  what: string;
  digest: OciDigest;
  /** As the manifest says. */
  sizeBytes: number;
  rules: RetryRules;
  signal: AbortSignal;
}

/** More than `sizeBytes`, or less at a proper end, is for the consumer to judge. */
export async function* downloadBlob(
  client: RegistryClient,
  options: DownloadOptions,
): AsyncGenerator<Buffer, void> {
  const { what, sizeBytes, signal } = options;
  const attempts = new Attempts(options.rules);
  let atBytes = 0;
  let newBytes = 0;
  let ranges = true;
  for (;;) {
    try {
      const answer = await request(client, options, ranges ? atBytes : 0);
      if (answer.status === 416) {
        await answer.discard();
        ranges = false;
        throw new TransientFault(`${what}: ${answer.url.host} does not go on at ${atBytes}`);
      }
      for await (const piece of continued(answer, atBytes, what)) {
        atBytes += piece.length;
        newBytes += piece.length;
        if (newBytes >= progressBytes) {
          newBytes = 0;
          attempts.progressed();
        }
        yield piece;
        if (atBytes > sizeBytes) return;
      }
      if (answer.isDelimited || atBytes >= sizeBytes) return;
      throw new TransientFault(`${what}: the connection broke (${answer.url.host})`);
    } catch (error) {
      // Once it has begun, the registry is there: what cannot be reached now is being restarted.
      const wasThere = atBytes > 0 && error instanceof ImgstoreError;
      const always = wasThere && error.code === 'UNAVAILABLE';
      await attempts.next(error, signal, { always });
    }
  }
}

function request(
  client: RegistryClient,
  { what, digest, signal }: DownloadOptions,
  fromBytes: number,
): Promise<HttpAnswer> {
  // A body that is compressed on the way would have other bytes than those of the digest.
  const headers: Record<string, string> = { 'Accept-Encoding': 'identity' };
  if (fromBytes > 0) headers['Range'] = `bytes=${fromBytes}-`;
  const accepted = fromBytes > 0 ? [200, 206, 416] : [200];
  return client.get({ what, path: `blobs/${digest}`, headers, accepted, signal });
}

/** The answer's bytes from `atBytes` of the blob on. */
async function* continued(
  answer: HttpAnswer,
  atBytes: number,
  what: string,
): AsyncGenerator<Buffer, void> {
  let skipBytes = atBytes;
  if (answer.status === 206) {
    const start = /^bytes ([0-9]{1,15})-/.exec(answer.headers['content-range'] ?? '')?.[1];
    if (start === undefined || Number(start) > atBytes) {
      await answer.discard();
      const state = `${answer.url.host} answers with a range that was not asked for`;
      throw unavailable(what, state, 'The registry is not set up as it should be.');
    }
    skipBytes = atBytes - Number(start);
  }
  for await (const piece of answer.body()) {
    const known = Math.min(skipBytes, piece.length);
    skipBytes -= known;
    if (known < piece.length) yield piece.subarray(known);
  }
}
