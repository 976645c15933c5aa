/**
 * A store in an S3 bucket: the object of key `a/b` is `PREFIX/a/b`. docs/format/store-layout.md has
 * the layout and what is asked of the service. Retries are a wrapper; a connection that the service
 * closed while it was idle is a RetryableFault, so a store without that wrapper has some.
 *
 * Invariant: below `tmp/` lies at most the object that the probe for conditional writes makes; list
 * does not show it, so that a place with nothing else is empty.
 */

import { ListObjectsV2Command, type ListObjectsV2CommandOutput } from '@aws-sdk/client-s3';
import { ImgstoreError } from '../base/errors.ts';
import { KiB } from '../base/limits.ts';
import type { CopyingStore, CopyOptions } from './copying-store.ts';
import { checkKeyPrefix, checkObjectKey } from './object-key.ts';
import type { GetObjectOptions, ObjectStat, PutOptions, PutOutcome } from './object-store.ts';
import { type ListPage, listPages, type PagedStore } from './retrying.ts';
import { BadAnswer, codeOf, isAbsence, statusOf } from './s3-fault.ts';
import { formatS3Location, type S3Location } from './s3-location.ts';
import { failureIn, gather } from './s3-objects.ts';
import { type S3RequestOptions, S3Requests } from './s3-requests.ts';

export interface S3StoreOptions extends S3RequestOptions {
  /** Keys of one page of a list: S3 gives at most 1000. */
  pageKeysMax?: number;
}

/** The first part of a key that no object of a caller may have. */
const reservedPart = 'tmp';
const probeKey = `${reservedPart}/if-none-match`;
const pageKeysMaxDefault = 1000;
/** Of an answer that tells of success. */
const answerSizeMaxBytes = 64 * KiB;

type Aborting = { signal?: AbortSignal };

export class S3Store implements PagedStore, CopyingStore {
  readonly location: string;
  readonly #bucket: string;
  /** '' or with a slash at its end. */
  readonly #base: string;
  readonly #requests: S3Requests;
  readonly #pageKeysMax: number;
  #conditionalWrites: Promise<boolean> | undefined;

  constructor(location: S3Location, options: S3StoreOptions = {}) {
    this.location = formatS3Location(location);
    this.#bucket = location.bucket;
    this.#base = location.prefix === '' ? '' : `${location.prefix}/`;
    this.#requests = new S3Requests(location, options);
    this.#pageKeysMax = options.pageKeysMax ?? pageKeysMaxDefault;
  }

  async get(key: string, { sizeMaxBytes, signal }: GetObjectOptions): Promise<Buffer | undefined> {
    const fullKey = this.#fullKeyOf(key);
    return this.#requests.run(`read ${key}`, { signal }, async request => {
      const answer = await request.send({ method: 'GET', key: fullKey }).catch(unlessAbsent);
      if (answer === undefined) return undefined;
      const stated = answer.headers['content-length'];
      const sizeBytes = stated === undefined ? sizeMaxBytes : Number(stated);
      if (sizeBytes > sizeMaxBytes) {
        answer.body.destroy();
        throw tooLarge(key, sizeMaxBytes);
      }
      request.allowBytes(sizeBytes);
      const bytes = await gather(answer.body, sizeMaxBytes);
      if (bytes === undefined) throw tooLarge(key, sizeMaxBytes);
      if (stated !== undefined && bytes.length !== sizeBytes) {
        throw new BadAnswer('the answer ended early');
      }
      return bytes;
    });
  }

  async stat(key: string, { signal }: Aborting = {}): Promise<ObjectStat | undefined> {
    const fullKey = this.#fullKeyOf(key);
    return this.#requests.run(`look up ${key}`, { signal }, async request => {
      const answer = await request.send({ method: 'HEAD', key: fullKey }).catch(unlessAbsent);
      if (answer === undefined) return undefined;
      await gather(answer.body, 0);
      const { 'content-length': size = 'none', 'last-modified': time = '' } = answer.headers;
      return objectStat(key, Number(size), new Date(time));
    });
  }

  async put(key: string, bytes: Uint8Array, { ifAbsent, signal }: PutOptions): Promise<PutOutcome> {
    this.#fullKeyOf(key);
    signal?.throwIfAborted();
    if (!ifAbsent) return this.#put(key, bytes, { signal });
    if (await this.hasConditionalWrites()) {
      return this.#put(key, bytes, { signal, onlyIfAbsent: true });
    }
    // Two writers at once may both find nothing and both write: see docs/format/store-layout.md.
    if ((await this.stat(key, signal && { signal })) !== undefined) return 'exists';
    return this.#put(key, bytes, { signal });
  }

  list(prefix: string, { signal }: Aborting = {}): AsyncGenerator<ObjectStat, void, undefined> {
    const pageAt = (page: string | undefined) =>
      this.listPage(prefix, { page, ...(signal && { signal }) });
    return listPages(pageAt, signal);
  }

  async listPage(
    prefix: string,
    { page, signal }: { page?: string | undefined; signal?: AbortSignal },
  ): Promise<ListPage> {
    checkKeyPrefix(prefix);
    if (prefix !== '') this.#fullKeyOf(prefix);
    const command = new ListObjectsV2Command({
      Bucket: this.#bucket,
      Prefix: this.#base + (prefix === '' ? '' : `${prefix}/`),
      MaxKeys: this.#pageKeysMax,
      // Foreign keys may hold what XML cannot.
      EncodingType: 'url',
      ContinuationToken: page,
    });
    const what = `list ${prefix === '' ? 'everything' : prefix}`;
    return this.#requests.run(what, { signal }, async ({ client, sending }) => {
      const output = await client.send(command, sending);
      const next = output.IsTruncated === true ? output.NextContinuationToken : undefined;
      if (output.IsTruncated === true && (next === undefined || next === page)) {
        throw new BadAnswer('the answer does not say what comes after a page');
      }
      return { objects: this.#objectsOf(output, command.input.Prefix!), next };
    });
  }

  async remove(key: string, { signal }: Aborting = {}): Promise<void> {
    const fullKey = this.#fullKeyOf(key);
    await this.#requests.run(`remove ${key}`, { signal }, async request => {
      const answer = await request.send({ method: 'DELETE', key: fullKey }).catch(unlessAbsent);
      if (answer !== undefined) await gather(answer.body, answerSizeMaxBytes);
    });
  }

  /** CopyObject knows no "if absent": that is asked first. */
  async copy(
    from: string,
    to: string,
    { ifAbsent = false, signal }: CopyOptions = {},
  ): Promise<boolean> {
    const source = `${this.#bucket}/${this.#fullKeyOf(from)}`;
    const headers = { 'x-amz-copy-source': source.split('/').map(encodeURIComponent).join('/') };
    const key = this.#fullKeyOf(to);
    if (ifAbsent && (await this.stat(to, signal && { signal })) !== undefined) return true;
    return this.#requests.run(`copy ${from}`, { signal }, async request => {
      const answer = await request.send({ method: 'PUT', key, headers }).catch(unlessAbsent);
      if (answer === undefined) return false;
      // The service may answer before it has copied, and fail afterwards.
      request.allowBytes(0);
      const text = (await gather(answer.body, answerSizeMaxBytes))?.toString() ?? '';
      if (text.includes('<CopyObjectResult')) return true;
      if (!text.includes('<Error')) throw new BadAnswer('the answer tells of no copy');
      throw failureIn(text, { ...answer, status: 500 });
    });
  }

  /**
   * Whether the service does "create if absent" itself. Asked once, by an object that is made if it
   * is absent and stays: where it is there already, one request tells. A service that does not know
   * the condition either refuses it or makes the object a second time.
   */
  async hasConditionalWrites(): Promise<boolean> {
    this.#conditionalWrites ??= this.#probe();
    try {
      return await this.#conditionalWrites;
    } catch (error) {
      this.#conditionalWrites = undefined;
      throw error;
    }
  }

  async #probe(): Promise<boolean> {
    // Not ended by one caller's signal: others wait for it too, and it has its time-outs.
    for (let attempt = 1; attempt <= 2; attempt++) {
      try {
        const outcome = await this.#put(probeKey, new Uint8Array(), { onlyIfAbsent: true });
        if (outcome === 'exists') return true;
      } catch (error) {
        if (error instanceof ConditionRefused) return false;
        throw error;
      }
    }
    return false;
  }

  async #put(
    key: string,
    bytes: Uint8Array,
    { onlyIfAbsent = false, signal }: { onlyIfAbsent?: boolean; signal?: AbortSignal | undefined },
  ): Promise<PutOutcome> {
    const request = {
      method: 'PUT',
      key: this.#base + key,
      body: bytes,
      ...(onlyIfAbsent && { headers: { 'if-none-match': '*' } }),
    } as const;
    const sized = { signal, bodyBytes: bytes.length };
    return this.#requests.run(`write ${key}`, sized, async ({ send }) => {
      try {
        const answer = await send(request);
        await gather(answer.body, answerSizeMaxBytes);
        return 'created';
      } catch (error) {
        if (onlyIfAbsent && statusOf(error) === 412) return 'exists';
        if (onlyIfAbsent && isRefusal(error)) throw new ConditionRefused();
        throw error;
      }
    });
  }

  #fullKeyOf(key: string): string {
    checkObjectKey(key);
    if (key.split('/', 1)[0] === reservedPart) {
      throw new ImgstoreError('USAGE', `Cannot use ${key} as a key: ${reservedPart}/ is reserved`);
    }
    return this.#base + key;
  }

  #objectsOf(output: ListObjectsV2CommandOutput, prefix: string): ObjectStat[] {
    const reserved = `${this.#base}${reservedPart}/`;
    const objects: ObjectStat[] = [];
    for (const { Key = '', Size, LastModified } of output.Contents ?? []) {
      const key = output.EncodingType === 'url' ? decoded(Key) : Key;
      if (!key.startsWith(prefix))
        throw new BadAnswer('the answer lists a key that is not below the prefix');
      if (key.startsWith(reserved)) continue;
      objects.push(objectStat(key.slice(this.#base.length), Size, LastModified));
    }
    return objects;
  }
}

/** The service does not know If-None-Match. */
class ConditionRefused extends ImgstoreError {
  constructor() {
    super('UNSUPPORTED', 'Cannot write to S3: the service refuses If-None-Match');
  }
}

function isRefusal(error: unknown): boolean {
  return statusOf(error) === 501 || ['NotImplemented', 'InvalidArgument'].includes(codeOf(error));
}

function unlessAbsent(error: unknown): undefined {
  if (!isAbsence(error)) throw error;
}

function tooLarge(key: string, sizeMaxBytes: number): ImgstoreError {
  return new ImgstoreError('LIMIT', `Cannot read ${key}: it has more than ${sizeMaxBytes} bytes`);
}

function objectStat(
  key: string,
  sizeBytes = Number.NaN,
  modified = new Date(Number.NaN),
): ObjectStat {
  if (!Number.isSafeInteger(sizeBytes) || Number.isNaN(modified.getTime())) {
    throw new BadAnswer('the answer tells of an object without size or time');
  }
  return { key, sizeBytes, modified };
}

/** As S3 encodes keys: a plus is a space. */
function decoded(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', ' '));
  } catch {
    return key;
  }
}
