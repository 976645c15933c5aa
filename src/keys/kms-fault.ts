/**
 * What the AWS SDK throws for KMS, with what to do about it. Of a service's answer only a well-formed
 * code reaches a message: its texts repeat who asked and are not trusted.
 */

import { KMSServiceException } from '@aws-sdk/client-kms';
import { errnoOf, ImgstoreError } from '../base/errors.ts';

interface FaultContext {
  /** "Cannot <do> <what>", without a colon. */
  what: string;
  keyName: string;
}

/**
 * KEY: the service refuses who asks, or the KMS key or what it wrapped is of no use. UNAVAILABLE: no
 * answer, or a service that is busy or broken, after the SDK's own retries. A bug stays one.
 */
export function kmsFault(error: unknown, context: FaultContext): unknown {
  if (error instanceof ImgstoreError) return error;
  if (error instanceof KMSServiceException) return serviceFault(error, context);
  return connectionFault(error, context);
}

const credentialsHint =
  'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws; a running daemon ' +
  'keeps those it was started with (imgstore daemon stop).';

type Final = readonly [state: string, hint: (keyName: string) => string];

const finals: Readonly<Record<string, Final>> = {
  AccessDeniedException: [
    'access denied',
    keyName => `Have kms:GenerateDataKey (to make) or kms:Decrypt (to open) allowed on ${keyName}.`,
  ],
  DisabledException: ['the KMS key is disabled', keyName => `Enable ${keyName}.`],
  KMSInvalidStateException: [
    'the KMS key is not in use: is its deletion scheduled?',
    keyName => `Look at ${keyName}, and cancel its deletion in time: nothing replaces it.`,
  ],
  NotFoundException: [
    'there is no such KMS key',
    () => 'Check its name, the region, and AWS_ENDPOINT_URL_KMS.',
  ],
  InvalidCiphertextException: [
    'KMS did not wrap this, or not for this purpose',
    () => 'The file is damaged or was renamed. Restore it from where it is backed up.',
  ],
  IncorrectKeyException: [
    'another KMS key wrapped it',
    () => 'The file is damaged. Restore it from where it is backed up.',
  ],
  InvalidKeyUsageException: [
    'the KMS key is not one that encrypts',
    () => 'Use a symmetric key: SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT.',
  ],
  InvalidSignatureException: ['the signature is wrong', () => 'Check the secret access key.'],
  UnrecognizedClientException: [
    'the credentials are not known',
    () => 'Check the access key, and that AWS_ENDPOINT_URL_KMS is the one it is for.',
  ],
  ExpiredTokenException: [
    'the credentials have expired',
    () => 'Sign in again; a running daemon keeps its credentials (imgstore daemon stop).',
  ],
};

const busy =
  /^(?:Throttling|TooManyRequests|LimitExceeded|RequestLimit|DependencyTimeout|KeyUnavail|KMSInternal|InternalFailure|ServiceUnavail)/;

function serviceFault(error: KMSServiceException, { what, keyName }: FaultContext): ImgstoreError {
  const status = error.$metadata.httpStatusCode ?? 0;
  const code = /^[A-Z][A-Za-z0-9]{1,63}$/.test(error.name) ? error.name : '';
  const final = Object.hasOwn(finals, code) ? finals[code] : undefined;
  if (final !== undefined) {
    const [state, hint] = final;
    return new ImgstoreError('KEY', `${what}: ${state} (${code})`, { hint: hint(keyName) });
  }
  const answer = code === '' ? `KMS answers ${status}` : `KMS answers ${code} (${status})`;
  if (status === 429 || status >= 500 || busy.test(code)) {
    return new ImgstoreError('UNAVAILABLE', `${what}: ${answer}`, {
      hint: 'The service is busy or broken: run it again later.',
    });
  }
  return new ImgstoreError('KEY', `${what}: ${answer}`, {
    hint: `See the documentation of AWS KMS on ${code === '' ? status : code}.`,
  });
}

function connectionFault(error: unknown, { what }: FaultContext): unknown {
  const name = error instanceof Error ? error.name : '';
  const text = error instanceof Error ? error.message : '';
  if (name === 'CredentialsProviderError' || /credential/i.test(text)) {
    return new ImgstoreError('KEY', `${what}: no usable credentials were found`, {
      hint: credentialsHint,
    });
  }
  if (/region (?:is missing|not accepted)/i.test(text)) {
    return new ImgstoreError('USAGE', `${what}: no valid region is set`, {
      hint: "Set AWS_REGION, or give the key's ARN. Is there the profile that AWS_PROFILE names?",
    });
  }
  const errno = errnoOf(error);
  const unreadable = error instanceof Error && '$metadata' in error;
  if (errno === undefined && name !== 'TimeoutError' && !unreadable) return error;
  const state =
    errno !== undefined
      ? `no connection to KMS (${errno})`
      : name === 'TimeoutError'
        ? 'KMS does not answer in time'
        : 'the answer is not one of KMS';
  return new ImgstoreError('UNAVAILABLE', `${what}: ${state}`, {
    hint: "Can this machine reach KMS? AWS_ENDPOINT_URL_KMS names another endpoint than AWS's.",
    cause: error,
  });
}
