/**
 * A registry that a test can have behave in any way: it holds one image and answers as it should
 * unless the test's own handler answers first. Not a model of any product; see docker-registry for that.
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { ociDigest } from '../../../src/base/digest.ts';
import type { RetryRules } from '../../../src/oci/registry/attempts.ts';
import type { HttpTiming } from '../../../src/oci/registry/http.ts';
import { openRegistryImage } from '../../../src/oci/registry/registry-image.ts';
import { platformWish } from '../../../src/oci/source/platform.ts';
import type { SourceImage } from '../../../src/oci/source-image.ts';
import { loopbackCertificate, loopbackKey } from '../../support/loopback-certificate.ts';
import { mediaTypes } from '../../support/oci-layout.ts';

export interface OddRequest {
  method: string;
  /** With its query; of a request to a proxy, the whole URL. */
  path: string;
  authorization: string | undefined;
  range: string | undefined;
  form: string;
}

/** True if it has answered. */
export type OddHandler = (
  request: OddRequest,
  response: ServerResponse,
  incoming: IncomingMessage,
) => boolean;

export interface TestImage {
  manifest: Buffer;
  config: Buffer;
  layers: readonly Buffer[];
}

/** Layers that are their own tars. */
export function imageOf(layers: readonly Buffer[], platform = 'amd64'): TestImage {
  const descriptor = (mediaType: string, bytes: Buffer) => {
    return { mediaType, digest: ociDigest(bytes), size: bytes.length };
  };
  const rootfs = { type: 'layers', diff_ids: layers.map(ociDigest) };
  const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: platform, rootfs }));
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: descriptor(mediaTypes.config, config),
    layers: layers.map(layer => descriptor(mediaTypes.layer, layer)),
  };
  return { manifest: Buffer.from(JSON.stringify(manifest)), config, layers };
}

export class OddRegistry {
  readonly requests: OddRequest[] = [];
  readonly #image: TestImage;
  readonly #server: Server;
  handler: OddHandler = () => false;

  constructor(image: TestImage, { tls = false } = {}) {
    this.#image = image;
    const listener = (incoming: IncomingMessage, response: ServerResponse) =>
      void this.#serve(incoming, response);
    this.#server = tls
      ? createSecureServer({ key: loopbackKey, cert: loopbackCertificate }, listener)
      : createServer(listener);
    // What is no HTTP, such as the look whether it speaks TLS, is not a test's concern.
    this.#server.on('clientError', (_, socket) => socket.destroy());
  }

  /** Closed when the test ends. */
  static async start(
    context: { after(fn: () => Promise<void>): void },
    image: TestImage,
    { handler, tls = false }: { handler?: OddHandler; tls?: boolean } = {},
  ): Promise<OddRegistry> {
    const registry = new OddRegistry(image, { tls });
    if (handler !== undefined) registry.handler = handler;
    await once(registry.#server.listen(0, '127.0.0.1'), 'listening');
    context.after(async () => {
      const closed = once(registry.#server, 'close');
      registry.#server.close();
      registry.#server.closeAllConnections();
      await closed;
    });
    return registry;
  }

  /** `127.0.0.1:PORT` */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get openConnections(): Promise<number> {
    return new Promise((resolve, reject) =>
      this.#server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  }

  /** Sends a blob as it should be sent. */
  sendBlob(bytes: Buffer, request: OddRequest, response: ServerResponse): void {
    const from = Number(/^bytes=([0-9]+)-$/.exec(request.range ?? '')?.[1] ?? 0);
    const isRange = request.range !== undefined;
    if (isRange)
      response.setHeader('Content-Range', `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
    response.writeHead(isRange ? 206 : 200, { 'Content-Length': bytes.length - from });
    response.end(bytes.subarray(from));
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of incoming) pieces.push(piece as Buffer);
    const request: OddRequest = {
      method: incoming.method!,
      path: incoming.url!,
      authorization: incoming.headers.authorization,
      range: incoming.headers.range,
      form: Buffer.concat(pieces).toString(),
    };
    this.requests.push(request);
    if (!this.handler(request, response, incoming)) this.#answer(request, response);
  }

  #answer(request: OddRequest, response: ServerResponse): void {
    const { manifest, config, layers } = this.#image;
    const name = request.path.split('?')[0]!.split('/').at(-1)!;
    const isManifest = request.path.includes('/manifests/');
    const blob = [config, ...layers].find(each => ociDigest(each) === name);
    if (isManifest && (name === 'latest' || name === ociDigest(manifest))) {
      response.writeHead(200, { 'Content-Type': mediaTypes.manifest }).end(manifest);
    } else if (!isManifest && blob !== undefined) this.sendBlob(blob, request, response);
    else response.writeHead(404).end('{"errors":[{"code":"BLOB_UNKNOWN","message":"unknown"}]}');
  }
}

/** So that tests of waits take no time. */
export const fastRules: RetryRules = {
  attemptsMax: 4,
  waitFirstMs: 1,
  waitMaxMs: 2,
  retryAfterMaxMs: 1500,
};
export const fastTiming: HttpTiming = { answerMs: 400, silenceMs: 400 };

export interface OpenOptions {
  env?: NodeJS.ProcessEnv;
  plainHttp?: boolean;
  signal?: AbortSignal;
  timing?: HttpTiming;
}

/** `name` as behind `docker://`; without the credentials and proxies of this machine. */
export function openFrom(name: string, options: OpenOptions = {}): Promise<SourceImage> {
  const nobody = { HOME: '/nonexistent', XDG_RUNTIME_DIR: '/nonexistent' };
  return openRegistryImage(`docker://${name}`, `//${name}`, {
    wish: platformWish(undefined),
    rules: fastRules,
    timing: fastTiming,
    ...options,
    env: { ...nobody, ...options.env },
  });
}
