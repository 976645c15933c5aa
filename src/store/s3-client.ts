/** The AWS SDK's client as a store uses it: no retries, few connections that stay open. */

import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { pipeline, Readable, Transform } from 'node:stream';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { ImgstoreError } from '../base/errors.ts';
import { MiB } from '../base/limits.ts';
import type { S3Location } from './s3-location.ts';

const regionDefault = 'us-east-1';
/** A page of 1000 keys of 1024 bytes, each byte escaped twice, is below. */
const documentSizeMaxBytes = 16 * MiB;

/** `connectionsMax` at once. */
export function makeS3Client(location: S3Location, connectionsMax: number): S3Client {
  const agent = { keepAlive: true, maxSockets: connectionsMax, scheduling: 'lifo' } as const;
  const client = new S3Client({
    ...endpointAndRegion(location),
    maxAttempts: 1,
    requestHandler: { httpAgent: new HttpAgent(agent), httpsAgent: new HttpsAgent(agent) },
    // The signature covers the SHA-256 of a body, which the service checks; ids and seals cover
    // what comes back. The SDK's own CRCs would be a third, and not every service knows them.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  boundAnswers(client);
  return client;
}

/** The SDK gathers the answer to a command whole before it looks at it, however long it is. */
function boundAnswers(client: S3Client): void {
  client.middlewareStack.add(
    next => async args => {
      const result = await next(args);
      const response = result.response as { body: unknown };
      if (response.body instanceof Readable) {
        response.body = limited(response.body, documentSizeMaxBytes);
      }
      return result;
    },
    { step: 'deserialize', priority: 'low', name: 'imgstoreBoundAnswers' },
  );
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
