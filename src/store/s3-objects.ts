/**
 * Requests for one object: signed and sent by the AWS SDK's own parts, but past its pipeline of
 * commands, which costs three times as much processor time as all the rest of a request
 * (docs/format/store-layout.md has the figures).
 *
 * The SDK builds one request for one key, by its rules for endpoints, regions and buckets; those for
 * other keys differ in method, key, headers and body alone. Credentials are asked for anew each time:
 * the SDK keeps them until they expire.
 */

import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { HeadObjectCommand, type S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import { assert } from '../base/assert.ts';
import { KiB } from '../base/limits.ts';
import { BadAnswer } from './s3-fault.ts';

export interface ObjectRequest {
  method: 'GET' | 'HEAD' | 'PUT' | 'DELETE';
  /** With the store's prefix: parts that isObjectKey allows. */
  key: string;
  headers?: Readonly<Record<string, string>>;
  body?: Uint8Array;
}

export interface ObjectAnswer {
  status: number;
  headers: Readonly<Record<string, string>>;
  /** To be read to its end, or destroyed. */
  body: IncomingMessage;
}

type Signer = Awaited<ReturnType<S3Client['config']['signer']>>;
type HttpRequest = Exclude<Parameters<Signer['sign']>[0], string>;
type SigningOptions = Parameters<Signer['sign']>[1];

interface Template {
  request: HttpRequest;
  /** Of the request's path, what is before the key. */
  base: string;
  signer: Signer;
  signing: SigningOptions;
}

/** Of errors only the code is looked at, which stands at their beginning. */
const errorSizeMaxBytes = 64 * KiB;
const codePattern = /<Code>([A-Za-z0-9.]{1,64})<\/Code>/;
const templateKey = 'k';

export class ObjectRequests {
  readonly #client: S3Client;
  readonly #bucket: string;
  #template: Promise<Template> | undefined;

  constructor(client: S3Client, bucket: string) {
    this.#client = client;
    this.#bucket = bucket;
  }

  /** Errors: S3ServiceException for an answer that is no success; those of the SDK. */
  async send(request: ObjectRequest, abortSignal: AbortSignal): Promise<ObjectAnswer> {
    const { method, key, headers, body } = request;
    const { config } = this.#client;
    const template = await this.#getTemplate();
    const unsigned = {
      ...template.request,
      method,
      path: template.base + key.split('/').map(encodeURIComponent).join('/'),
      headers: {
        ...template.request.headers,
        ...headers,
        ...(body && {
          'content-length': String(body.length),
          'content-type': 'application/octet-stream',
          'x-amz-content-sha256': hash('sha256', body),
        }),
      },
      body,
    };
    const signingDate = new Date(Date.now() + config.systemClockOffset);
    const signed = await template.signer.sign(unsigned, { ...template.signing, signingDate });
    const { response } = await config.requestHandler.handle(signed, { abortSignal });
    const { statusCode: status } = response;
    const answer = { status, headers: response.headers, body: response.body };
    if (status >= 300) throw await this.#failure(answer);
    return answer;
  }

  async #failure(answer: ObjectAnswer): Promise<S3ServiceException> {
    const text = (await gather(answer.body, errorSizeMaxBytes))?.toString() ?? '';
    const error = failureIn(text, answer);
    if (error.name === 'RequestTimeTooSkewed') {
      const theirsMs = Date.parse(answer.headers['date'] ?? '');
      if (!Number.isNaN(theirsMs)) this.#client.config.systemClockOffset = theirsMs - Date.now();
    }
    return error;
  }

  #getTemplate(): Promise<Template> {
    this.#template ??= this.#makeTemplate().catch((error: unknown) => {
      this.#template = undefined;
      throw error;
    });
    return this.#template;
  }

  async #makeTemplate(): Promise<Template> {
    const { config, middlewareStack } = this.#client;
    const command = new HeadObjectCommand({ Bucket: this.#bucket, Key: templateKey });
    const stack = middlewareStack.clone();
    let template: Omit<Template, 'base'> | undefined;
    stack.add(
      (_next, context) => async args => {
        const { signing_region: signingRegion, signing_service: signingService } = context;
        template = {
          request: args.request as HttpRequest,
          signer: await config.signer(context.authSchemes?.[0]),
          signing: { signingRegion, signingService },
        };
        return { response: undefined, output: { $metadata: {} } };
      },
      // The last step before it would be signed and sent.
      { step: 'build', priority: 'low', name: 'imgstoreTemplate' },
    );
    await command.resolveMiddleware(stack, config, undefined)(command);
    assert(template !== undefined, 'the SDK built a request');
    const { path } = template.request;
    assert(path.endsWith(`/${templateKey}`), 'the key is at the end of the path');
    return { ...template, base: path.slice(0, -templateKey.length) };
  }
}

/** What a document of an error tells, as the SDK throws it where it reads the answer itself. */
export function failureIn(
  text: string,
  { status, headers }: Pick<ObjectAnswer, 'status' | 'headers'>,
): S3ServiceException {
  const code = codePattern.exec(text)?.[1] ?? 'Unknown';
  const error = new S3ServiceException({
    name: code,
    message: code,
    $fault: status < 500 ? 'client' : 'server',
    $metadata: { httpStatusCode: status },
  });
  return Object.assign(error, { $response: { statusCode: status, headers } });
}

/** A body to its end; undefined if it has more bytes, and the connection is closed. */
export function gather(body: IncomingMessage, sizeMaxBytes: number): Promise<Buffer | undefined> {
  // By events: to iterate over the stream costs a tenth of the request.
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let sizeBytes = 0;
    body.on('data', (piece: Buffer) => {
      sizeBytes += piece.length;
      pieces.push(piece);
      if (sizeBytes <= sizeMaxBytes) return;
      body.destroy();
      resolve(undefined);
    });
    body.on('end', () => resolve(Buffer.concat(pieces, sizeBytes)));
    body.on('error', reject);
    body.on('close', () => {
      if (!body.readableEnded) reject(new BadAnswer('the answer ended early'));
    });
  });
}
