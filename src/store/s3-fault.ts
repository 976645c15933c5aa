/**
 * What the AWS SDK throws, as faults of a store: which of them a later attempt may not meet, and
 * what to do about the others. Of a service's answer only the status and a well-formed code reach a
 * message: its texts repeat keys and signatures, and are not trusted.
 */

import { S3ServiceException } from '@aws-sdk/client-s3';
import { errnoOf, ImgstoreError } from '../base/errors.ts';
import { parseRetryAfter, RetryableFault } from '../base/retry.ts';
import { formatS3Location, type S3Location } from './s3-location.ts';

export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

/** The service's word for what went wrong (`SlowDown`), '' if it gave none. */
export function codeOf(error: unknown): string {
  if (!(error instanceof S3ServiceException)) return '';
  return /^[A-Z][A-Za-z0-9.]{1,63}$/.test(error.name) && !noCodes.has(error.name) ? error.name : '';
}

/** Where an answer has no body, the SDK makes up a name. */
const noCodes: ReadonlySet<string> = new Set(['Unknown', 'UnknownError', 'S3ServiceException']);

/** There is no such object, as far as this answer tells: one to HEAD does not name the bucket. */
export function isAbsence(error: unknown): boolean {
  return statusOf(error) === 404 && codeOf(error) !== 'NoSuchBucket';
}

/** An answer that arrived but cannot be S3's; the message is its state. */
export class BadAnswer extends Error {}

interface FaultContext {
  /** "Cannot <do> <what>", without a colon. */
  what: string;
  location: S3Location;
  nowMs: number;
}

export function s3Fault(error: unknown, context: FaultContext): unknown {
  if (error instanceof ImgstoreError) return error;
  if (error instanceof S3ServiceException) return serviceFault(error, context);
  return connectionFault(error, context);
}

/** Codes that come with a status that does not tell: 400 and 403 are final for all others. */
const retryableCodes: ReadonlySet<string> = new Set([
  ...['SlowDown', 'Throttling', 'ThrottlingException', 'TooManyRequests', 'RequestLimitExceeded'],
  ...['RequestTimeout', 'InternalError', 'ServiceUnavailable', 'IncompleteBody'],
  // The body was damaged on its way.
  ...['BadDigest', 'XAmzContentSHA256Mismatch'],
  // The SDK has set its clock by the answer.
  'RequestTimeTooSkewed',
  // Conditional writes that met each other.
  ...['ConditionalRequestConflict', 'OperationAborted'],
]);
const retryableStatuses: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504, 509]);

function serviceFault(error: S3ServiceException, context: FaultContext): ImgstoreError {
  const { what, location, nowMs } = context;
  const status = statusOf(error) ?? 0;
  const code = codeOf(error);
  const answer = code === '' ? `the service answers ${status}` : `${code} (${status})`;
  if (retryableStatuses.has(status) || retryableCodes.has(code)) {
    return new RetryableFault(`${what}: ${answer}`, {
      hint: 'The service is busy or broken: run it again later.',
      retryAfterMs: parseRetryAfter(error.$response?.headers['retry-after'], nowMs),
    });
  }
  if (code === 'NoSuchBucket') {
    return new ImgstoreError('UNAVAILABLE', `${what}: there is no bucket ${location.bucket}`, {
      hint: 'Make the bucket, or correct its name, the endpoint or the region.',
    });
  }
  if (status >= 300 && status < 400) {
    const elsewhere = error.$response?.headers['x-amz-bucket-region'] ?? '';
    const region = /^[a-z0-9-]{1,32}$/.test(elsewhere) ? elsewhere : 'REGION';
    return new ImgstoreError('IO', `${what}: the bucket is in another region (${status})`, {
      hint: `Add region=${region} to the store's URL.`,
    });
  }
  const hint =
    hints[code] ?? (status === 403 ? accessHint : `See S3's documentation of ${answer}.`);
  const state = status === 403 || status === 401 ? `access denied, ${answer}` : answer;
  return new ImgstoreError('IO', `${what}: ${state}`, { hint });
}

const accessHint =
  'Check the credentials and what they allow: s3:GetObject, PutObject, DeleteObject, ListBucket.';
const credentialsHint =
  'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws; a running daemon ' +
  'keeps those it was started with (imgstore daemon stop).';

const hints: Readonly<Record<string, string>> = {
  SignatureDoesNotMatch: 'Check the secret access key.',
  InvalidAccessKeyId: 'Check the access key, and that the endpoint is the one it is for.',
  ExpiredToken: 'Sign in again; a running daemon keeps its credentials (imgstore daemon stop).',
  InvalidToken: 'Check AWS_SESSION_TOKEN.',
  AuthorizationHeaderMalformed: "Add region=REGION, the bucket's own, to the store's URL.",
  QuotaExceeded: 'Free some space or raise the quota.',
};

const tlsPattern = /^(?:ERR_TLS|ERR_SSL|CERT_|DEPTH_|SELF_SIGNED|UNABLE_TO)/;

/**
 * No answer came: no credentials, no connection, or something that is not HTTP or not S3. Anything
 * else is a bug, and stays what it is.
 */
function connectionFault(error: unknown, { what, location }: FaultContext): unknown {
  const name = error instanceof Error ? error.name : '';
  const text = error instanceof Error ? error.message : '';
  if (name === 'CredentialsProviderError' || /credential/i.test(text)) {
    return new ImgstoreError('IO', `${what}: no usable credentials were found`, {
      hint: credentialsHint,
    });
  }
  if (/region (?:is missing|not accepted)/i.test(text)) {
    return new ImgstoreError('USAGE', `${what}: no valid region is set`, {
      hint: "Set AWS_REGION, or add region=REGION to the store's URL. Is there the profile that AWS_PROFILE names?",
    });
  }
  const errno = errnoOf(error) ?? '';
  const code = codeOfSystem(error);
  const service = location.endpoint ?? formatS3Location(location);
  const hint = `Is ${service} right, and does it run?`;
  if (errno === 'ENOTFOUND') {
    return new ImgstoreError('UNAVAILABLE', `${what}: the host is not known`, { hint });
  }
  if (errno === 'EPROTO' || tlsPattern.test(code)) {
    return new ImgstoreError('UNAVAILABLE', `${what}: no secure connection (${code})`, {
      hint: `${hint} NODE_EXTRA_CA_CERTS names certificates of your own.`,
      cause: error,
    });
  }
  if (errno !== '' || name === 'TimeoutError' || text === 'aborted') {
    const state = errno === '' ? 'the connection broke off' : `no connection (${errno})`;
    return new RetryableFault(`${what}: ${state}`, { hint, cause: error });
  }
  if (error instanceof BadAnswer) return new RetryableFault(`${what}: ${text}`, { hint });
  // The SDK marks what it could not read with the answer.
  const unreadable = error instanceof Error && '$metadata' in error;
  if (!unreadable && !/^(?:HPE|ERR_STREAM)_/.test(code)) return error;
  return new RetryableFault(`${what}: the answer is not one of S3`, { hint, cause: error });
}

/** Node's and OpenSSL's word for what went wrong. */
function codeOfSystem(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : '';
}
