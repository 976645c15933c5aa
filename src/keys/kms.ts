/**
 * Secrets wrapped by a key of AWS KMS. The KMS key never leaves the service: it makes a secret and
 * hands it over twice, plain and wrapped (GenerateDataKey), and later opens what it wrapped (Decrypt)
 * for whom its policy allows. Both are bound to a context that says what the secret is for.
 *
 * Region, credentials and endpoint (AWS_ENDPOINT_URL_KMS) are as the AWS SDK finds them; the ARN of
 * a key names its region. This module is loaded only where such a secret is met: the SDK is large.
 */

import {
  DecryptCommand,
  GenerateDataKeyCommand,
  KMSClient,
  type KMSClientConfig,
} from '@aws-sdk/client-kms';
import { ImgstoreError } from '../base/errors.ts';
import { type KmsWrapped, kmsKeyArnPattern } from './key-file.ts';
import { secretSizeBytes } from './keys.ts';
import { kmsFault } from './kms-fault.ts';

/** What a wrapped secret is bound to; readable in the service's logs. */
export type KmsContext = Readonly<Record<string, string>>;

export interface KmsTimes {
  connectMaxMs: number;
  answerMaxMs: number;
  attemptsMax: number;
}

/** A minute at the very most; a service that works answers within tens of milliseconds. */
export const kmsTimes: KmsTimes = { connectMaxMs: 3_000, answerMaxMs: 10_000, attemptsMax: 4 };

/** KMS's own limit on a ciphertext. */
const wrappedMaxBytes = 6144;
/** A key's id, its ARN, an alias (`alias/NAME`) or an alias's ARN. */
const keyNamePattern = /^[A-Za-z0-9:/_-]{1,2048}$/;

/**
 * A new secret under the KMS key of that id, ARN or alias. The caller wipes `secret`. Errors: USAGE
 * for what names no key, and those of kmsFault.
 */
export async function generateDataKey(
  keyName: string,
  context: KmsContext,
  times: KmsTimes = kmsTimes,
): Promise<KmsWrapped & { secret: Uint8Array }> {
  if (!keyNamePattern.test(keyName)) {
    throw new ImgstoreError('USAGE', `Cannot use ${JSON.stringify(keyName)} as a KMS key`, {
      hint: "Give the key's id or ARN, or alias/NAME.",
    });
  }
  const what = `Cannot make a secret with KMS key ${keyName}`;
  const command = new GenerateDataKeyCommand({
    KeyId: keyName,
    KeySpec: 'AES_256',
    EncryptionContext: { ...context },
  });
  const { KeyId, Plaintext, CiphertextBlob } = await send(what, keyName, times, client =>
    client.send(command),
  );
  const secret = checkedSecret(Plaintext, what);
  const wrapped = Buffer.from(CiphertextBlob ?? []);
  const keyArn = KeyId ?? '';
  if (!kmsKeyArnPattern.test(keyArn) || wrapped.length < 1 || wrapped.length > wrappedMaxBytes) {
    secret.fill(0);
    throw badAnswer(what);
  }
  return { secret, wrapped, keyArn };
}

/** `what` is "Cannot open …"; the caller wipes what it gets. Errors: those of kmsFault. */
export async function decryptDataKey(
  { keyArn, wrapped }: KmsWrapped,
  { what, context, times = kmsTimes }: { what: string; context: KmsContext; times?: KmsTimes },
): Promise<Uint8Array> {
  const command = new DecryptCommand({
    KeyId: keyArn,
    CiphertextBlob: wrapped,
    EncryptionContext: { ...context },
  });
  const { Plaintext } = await send(what, keyArn, times, client => client.send(command));
  return checkedSecret(Plaintext, what);
}

async function send<V>(
  what: string,
  keyName: string,
  times: KmsTimes,
  request: (client: KMSClient) => Promise<V>,
): Promise<V> {
  const client = new KMSClient({
    ...regionOf(keyName),
    maxAttempts: times.attemptsMax,
    retryMode: 'standard',
    requestHandler: {
      connectionTimeout: times.connectMaxMs,
      requestTimeout: times.answerMaxMs,
      throwOnRequestTimeout: true,
      // The time-out above ends with the head of an answer.
      socketTimeout: times.answerMaxMs,
    },
  });
  try {
    return await request(client);
  } catch (error) {
    throw kmsFault(error, { what, keyName });
  } finally {
    client.destroy();
  }
}

function regionOf(keyName: string): KMSClientConfig {
  const region = /^arn:aws[a-z-]*:kms:([a-z0-9-]{1,32}):/.exec(keyName)?.[1];
  return region === undefined ? {} : { region };
}

function checkedSecret(bytes: Uint8Array | undefined, what: string): Uint8Array {
  if (bytes?.length === secretSizeBytes) return bytes;
  bytes?.fill(0);
  throw badAnswer(what);
}

function badAnswer(what: string): ImgstoreError {
  return new ImgstoreError('UNAVAILABLE', `${what}: the answer is not one of KMS`, {
    hint: 'Is AWS_ENDPOINT_URL_KMS right?',
  });
}
