/**
 * A LOCAL STAND-IN FOR AWS KMS, for tests and benches: GenerateDataKey, Decrypt and DescribeKey over
 * the JSON 1.1 protocol on 127.0.0.1. It really encrypts (AES-256-GCM under a master key of its own,
 * the encryption context and the key's ARN as associated data), verifies every request's Signature
 * Version 4, and answers with the error codes of the service.
 *
 * What it lacks against AWS: HTTPS; an HSM (master keys are plain in this process, and gone with it);
 * policies, grants and IAM (a user is a function that allows or not); session tokens; rotation of key
 * material, so its ciphertexts name no generation; asymmetric, HMAC, multi-Region and imported keys;
 * quotas and throttling of its own; eventual consistency of aliases and states; limits on the size of
 * a context; every other operation; and the form of the ciphertext, which AWS does not tell.
 */

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  randomBytes,
  randomUUID,
  timingSafeEqual,
} from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export type KmsOperation = 'GenerateDataKey' | 'Decrypt' | 'DescribeKey';

export interface KmsRequest {
  operation: KmsOperation;
  accessKeyId: string;
  input: Readonly<Record<string, unknown>>;
}

/** What a test makes of a request that is signed well; undefined: it is answered. */
export type KmsFault =
  | { do: 'answer'; status: number; code?: string; body?: string }
  | { do: 'reset' }
  | { do: 'delay'; waitMs: number }
  /** Sends the head of an answer and half of its body, then nothing. */
  | { do: 'stall' };

interface MasterKey {
  arn: string;
  secret: Buffer;
  state: 'Enabled' | 'Disabled' | 'PendingDeletion';
}

interface User {
  secret: string;
  mayUse: (operation: KmsOperation, keyArn: string) => boolean;
}

class Refusal extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, status = 400) {
    super(`${code} of the local stand-in`);
    this.code = code;
    this.status = status;
  }
}

const account = '111122223333';
const nonceSizeBytes = 12;
const tagSizeBytes = 16;
const blobMagic = Buffer.from('local-kms 1\n');
const idSizeBytes = 36;
const clockSkewMaxMs = 5 * 60 * 1000;
const bodyMaxBytes = 64 * 1024;

export class LocalKms implements AsyncDisposable {
  readonly region = 'eu-test-1';
  /** Those whose signature was right, in order. */
  readonly requests: KmsRequest[] = [];
  fault: (request: KmsRequest) => KmsFault | undefined = () => undefined;
  readonly #server = createServer((request, response) => {
    this.#serve(request, response).catch(() => response.destroy());
  });
  readonly #keys = new Map<string, MasterKey>();
  readonly #aliases = new Map<string, string>();
  readonly #users = new Map<string, User>();
  readonly #administrator = this.#addUser(() => true);

  static async start(): Promise<LocalKms> {
    const kms = new LocalKms();
    kms.#server.listen(0, '127.0.0.1');
    await once(kms.#server, 'listening');
    return kms;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** A new master key; its ARN. */
  addKey(alias?: string): string {
    const id = randomUUID();
    const arn = `arn:aws:kms:${this.region}:${account}:key/${id}`;
    this.#keys.set(id, { arn, secret: randomBytes(32), state: 'Enabled' });
    if (alias !== undefined) this.#aliases.set(`alias/${alias}`, id);
    return arn;
  }

  setState(arn: string, state: MasterKey['state']): void {
    this.#find(arn).state = state;
  }

  /** What the AWS SDK needs to find it, as one who may do everything. */
  environment(): Record<string, string> {
    return this.#environmentOf(this.#administrator);
  }

  /** The same as one who may do less. */
  environmentOfUser(mayUse: User['mayUse']): Record<string, string> {
    return this.#environmentOf(this.#addUser(mayUse));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #addUser(mayUse: User['mayUse']): string {
    const accessKeyId = `AKIA${randomBytes(8).toString('hex').toUpperCase()}`;
    this.#users.set(accessKeyId, { secret: randomBytes(30).toString('base64url'), mayUse });
    return accessKeyId;
  }

  #environmentOf(accessKeyId: string): Record<string, string> {
    return {
      AWS_ENDPOINT_URL_KMS: this.endpoint,
      AWS_REGION: this.region,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: this.#users.get(accessKeyId)!.secret,
      AWS_EC2_METADATA_DISABLED: 'true',
    };
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await gather(request);
    let asked: KmsRequest | undefined;
    try {
      const accessKeyId = this.#verify(request, body);
      asked = { ...parse(request, body), accessKeyId };
      this.requests.push(asked);
      const fault = this.fault(asked);
      if (fault?.do === 'reset') return void response.destroy();
      if (fault?.do === 'delay') await sleep(fault.waitMs, undefined, { ref: false });
      if (fault?.do === 'stall') {
        response.writeHead(200, { 'content-type': mediaType, 'content-length': '100' });
        return void response.write('{"KeyId":');
      }
      if (fault?.do === 'answer') {
        return answer(response, fault.status, fault.body ?? { __type: fault.code ?? '' });
      }
      answer(response, 200, this.#perform(asked));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      answer(response, error.status, { __type: error.code, message: error.message });
    }
  }

  #perform({ operation, input, accessKeyId }: KmsRequest): object {
    const wrapped = operation === 'Decrypt' ? bytesOf(input['CiphertextBlob']) : undefined;
    const keyOfBlob = wrapped && this.#keyOfBlob(wrapped);
    const named = input['KeyId'] === undefined ? keyOfBlob : this.#find(String(input['KeyId']));
    if (named === undefined) throw new Refusal('ValidationException');
    if (!this.#users.get(accessKeyId)!.mayUse(operation, named.arn)) {
      throw new Refusal('AccessDeniedException');
    }
    if (operation === 'DescribeKey') {
      return {
        KeyMetadata: { KeyId: named.arn.split('/')[1], Arn: named.arn, KeyState: named.state },
      };
    }
    if (named.state === 'Disabled') throw new Refusal('DisabledException');
    if (named.state === 'PendingDeletion') throw new Refusal('KMSInvalidStateException');
    if (keyOfBlob !== undefined && keyOfBlob !== named) throw new Refusal('IncorrectKeyException');
    const bound = canonicalContext(input['EncryptionContext'], named.arn);
    const answered = { KeyId: named.arn, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
    if (wrapped !== undefined) {
      return { ...answered, Plaintext: decrypt(named, wrapped, bound).toString('base64') };
    }
    if (input['KeySpec'] !== 'AES_256') throw new Refusal('ValidationException');
    const plain = randomBytes(32);
    const blob = encrypt(named, plain, bound);
    return {
      ...answered,
      Plaintext: plain.toString('base64'),
      CiphertextBlob: blob.toString('base64'),
    };
  }

  /** By id, ARN, alias or ARN of an alias. */
  #find(name: string): MasterKey {
    const local = name.startsWith('arn:') ? name.split(':').slice(5).join(':') : name;
    const id = this.#aliases.get(local) ?? local.replace(/^key\//, '');
    const key = this.#keys.get(id);
    if (key === undefined) throw new Refusal('NotFoundException');
    return key;
  }

  #keyOfBlob(blob: Buffer): MasterKey {
    const id = blob.toString('latin1', blobMagic.length, blobMagic.length + idSizeBytes);
    const key = this.#keys.get(id);
    if (!blob.subarray(0, blobMagic.length).equals(blobMagic) || key === undefined) {
      throw new Refusal('InvalidCiphertextException');
    }
    return key;
  }

  /** Signature Version 4, from its specification; gives the access key. */
  #verify(request: IncomingMessage, body: Buffer): string {
    const fields =
      /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)\/(\d{8})\/([a-z0-9-]+)\/kms\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
        request.headers.authorization ?? '',
      );
    if (fields === null) throw new Refusal('MissingAuthenticationTokenException');
    const [, accessKeyId, day, region, signedHeaders, signature] = fields as unknown as string[];
    const user = this.#users.get(accessKeyId!);
    if (user === undefined) throw new Refusal('UnrecognizedClientException');
    const time = String(request.headers['x-amz-date']);
    const iso = time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
    const signed = signedHeaders!.split(';');
    const complete = ['host', 'x-amz-date', 'x-amz-target'].every(name => signed.includes(name));
    const skewMs = Math.abs(Date.parse(iso) - Date.now());
    if (
      region !== this.region ||
      !complete ||
      !(skewMs < clockSkewMaxMs) ||
      !time.startsWith(day!)
    ) {
      throw new Refusal('InvalidSignatureException');
    }
    const canonical = [
      request.method,
      request.url,
      '',
      ...signed.map(name => `${name}:${String(request.headers[name]).trim().replace(/ +/g, ' ')}`),
      '',
      signedHeaders,
      sha256(body),
    ].join('\n');
    const scope = [day, region, 'kms', 'aws4_request'].join('/');
    const text = ['AWS4-HMAC-SHA256', time, scope, sha256(Buffer.from(canonical))].join('\n');
    const signingKey = [day!, region!, 'kms', 'aws4_request'].reduce<string | Buffer>(
      (key, part) => createHmac('sha256', key).update(part).digest(),
      `AWS4${user.secret}`,
    );
    const expected = createHmac('sha256', signingKey).update(text).digest();
    if (!timingSafeEqual(expected, Buffer.from(signature!, 'hex'))) {
      throw new Refusal('InvalidSignatureException');
    }
    return accessKeyId!;
  }
}

const mediaType = 'application/x-amz-json-1.1';

function answer(response: ServerResponse, status: number, body: object | string): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  response.writeHead(status, { 'content-type': mediaType, 'x-amzn-requestid': randomUUID() });
  response.end(text);
}

async function gather(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    sizeBytes += piece.length;
    if (sizeBytes > bodyMaxBytes) throw new Error('the request is too large');
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function parse(request: IncomingMessage, body: Buffer): Omit<KmsRequest, 'accessKeyId'> {
  const operation = String(request.headers['x-amz-target']).replace(/^TrentService\./, '');
  if (request.headers['content-type'] !== mediaType) throw new Refusal('SerializationException');
  if (operation !== 'GenerateDataKey' && operation !== 'Decrypt' && operation !== 'DescribeKey') {
    throw new Refusal('UnknownOperationException');
  }
  return { operation, input: JSON.parse(body.toString('utf8')) };
}

function bytesOf(value: unknown): Buffer {
  if (typeof value !== 'string') throw new Refusal('ValidationException');
  return Buffer.from(value, 'base64');
}

/** The same bytes for the same pairs in any order. */
function canonicalContext(context: unknown, arn: string): Buffer {
  const pairs = Object.entries((context ?? {}) as Record<string, unknown>);
  if (pairs.some(([, value]) => typeof value !== 'string'))
    throw new Refusal('ValidationException');
  pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.from(JSON.stringify([arn, pairs]));
}

function encrypt(key: MasterKey, plain: Buffer, bound: Buffer): Buffer {
  const nonce = randomBytes(nonceSizeBytes);
  const cipher = createCipheriv('aes-256-gcm', key.secret, nonce).setAAD(bound);
  const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
  const id = Buffer.from(key.arn.split('/')[1]!);
  return Buffer.concat([blobMagic, id, nonce, cipher.getAuthTag(), sealed]);
}

function decrypt(key: MasterKey, blob: Buffer, bound: Buffer): Buffer {
  const at = blobMagic.length + idSizeBytes;
  const tagAt = at + nonceSizeBytes;
  const sealedAt = tagAt + tagSizeBytes;
  if (blob.length < sealedAt) throw new Refusal('InvalidCiphertextException');
  const decipher = createDecipheriv('aes-256-gcm', key.secret, blob.subarray(at, tagAt));
  decipher.setAAD(bound).setAuthTag(blob.subarray(tagAt, sealedAt));
  try {
    return Buffer.concat([decipher.update(blob.subarray(sealedAt)), decipher.final()]);
  } catch {
    throw new Refusal('InvalidCiphertextException');
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
