/**
 * The blobs of one image in a registry, by the OCI distribution spec 1.1.
 *
 * Sizes are those that manifests say: a registry takes a manifest only if it has what that names, and
 * to ask for each blob would make opening an image cost as many requests as it has layers. What is
 * missing all the same is NOT_FOUND when it is read.
 */

import { type OciDigest, ociDigest } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import { configSizeMaxBytes, MiB, manifestSizeMaxBytes } from '../../base/limits.ts';
import {
  absentBlob,
  type BlobSource,
  type ReadBlobOptions,
  type ReadOptions,
  tooLarge,
} from '../source/blob-source.ts';
import {
  type Descriptor,
  documentKind,
  indexTypes,
  manifestTypes,
  parseIndex,
  parseManifest,
} from '../source/documents.ts';
import { isObject } from '../source/json.ts';
import { Attempts, type RetryRules, retryDefaults } from './attempts.ts';
import { RegistryClient } from './client.ts';
import { findCredential } from './credentials.ts';
import { withDeadline } from './deadline.ts';
import { downloadBlob } from './download.ts';
import { HttpClient, type HttpTiming, timingDefaults } from './http.ts';
import { LayerDownloads } from './layer-downloads.ts';
import type { RegistryReference } from './reference.ts';

export interface RegistryOptions extends ReadOptions {
  /** Speak plain HTTP, which is otherwise done on loopback only. */
  plainHttp?: boolean | undefined;
  /** Where credentials and proxies are named. */
  env: NodeJS.ProcessEnv;
  rules?: RetryRules;
  timing?: HttpTiming;
}

/** Documents kept in memory; what does not fit any more is fetched again if it is needed again. */
const keptDocumentsMaxBytes = 8 * MiB;

interface Named {
  kind: 'manifest' | 'config' | 'layer';
  mediaType: string;
  sizeBytes: number;
}

export class RegistrySource implements BlobSource {
  readonly reference: string;
  readonly #name: RegistryReference;
  readonly #http: HttpClient;
  readonly #client: RegistryClient;
  readonly #rules: RetryRules;
  readonly #closed = new AbortController();
  /** Ends with the source, or with what it was opened for. */
  readonly #signal: AbortSignal;
  readonly #manifests = new Map<OciDigest, Named>();
  /** What the manifest that was read last names. */
  #blobs = new Map<OciDigest, Named>();
  #layers: LayerDownloads | undefined;
  readonly #kept = new Map<OciDigest, Buffer>();
  #keptBytes = 0;

  constructor(
    reference: string,
    name: RegistryReference,
    base: URL,
    { signal, env, plainHttp = false, ...options }: RegistryOptions,
  ) {
    this.reference = reference;
    this.#name = name;
    this.#signal = AbortSignal.any([this.#closed.signal, ...(signal ? [signal] : [])]);
    this.#rules = options.rules ?? retryDefaults;
    this.#http = new HttpClient(options.timing ?? timingDefaults, env);
    this.#client = new RegistryClient({
      reference,
      repository: name.repository,
      findCredential: () => findCredential(name, { env, signal: this.#signal }),
      http: this.#http,
      base,
      plainHttp,
      signal: this.#signal,
    });
  }

  /** What the reference means: the digest is our own, and must be the one that was asked for. */
  async openRoot(): Promise<Descriptor> {
    const { wanted } = this.#name;
    const what = `Cannot open ${this.reference}`;
    const wantedDigest = 'digest' in wanted ? wanted.digest : undefined;
    const path = `manifests/${'digest' in wanted ? wanted.digest : wanted.tag}`;
    const { bytes, type } = await this.#document(path, {
      what,
      sizeMaxBytes: manifestSizeMaxBytes,
    });
    const digest = ociDigest(bytes);
    if (wantedDigest !== undefined && digest !== wantedDigest) {
      throw new ImgstoreError('CORRUPT', `${what}: its manifest has the digest ${digest}`, {
        hint: 'The registry, or something on the way to it, has changed it. Do not use it.',
      });
    }
    const mediaType = isTelling(type) ? type : mediaTypeOf(bytes);
    const descriptor = { mediaType, digest, sizeBytes: bytes.length, annotations: {} };
    this.#manifests.set(digest, { kind: 'manifest', ...descriptor });
    this.#keep(digest, bytes);
    return descriptor;
  }

  async sizeOf(digest: OciDigest): Promise<number | undefined> {
    return this.#named(digest)?.sizeBytes;
  }

  async *read(digest: OciDigest, options: ReadBlobOptions): AsyncGenerator<Buffer, void> {
    options.signal?.throwIfAborted();
    const named = this.#named(digest);
    if (named === undefined) throw absentBlob(`blob ${digest} of ${this.reference}`);
    if (named.kind === 'layer') {
      yield* this.#layers!.read(digest, options);
      return;
    }
    const bytes = this.#kept.get(digest) ?? (await this.#fetch(digest, named));
    // A document with another digest is refused by the reader, who says so.
    if (ociDigest(bytes) === digest) {
      this.#keep(digest, bytes);
      if (named.kind === 'manifest') this.#learn(bytes, digest, named);
    }
    yield bytes;
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#layers?.close();
    this.#http.close();
  }

  #named(digest: OciDigest): Named | undefined {
    return this.#manifests.get(digest) ?? this.#blobs.get(digest);
  }

  async #fetch(digest: OciDigest, { kind, sizeBytes }: Named): Promise<Buffer> {
    const label = `${kind} ${digest} of ${this.reference}`;
    const sizeMaxBytes = kind === 'config' ? configSizeMaxBytes : manifestSizeMaxBytes;
    if (sizeBytes > sizeMaxBytes) throw tooLarge(label, sizeBytes, sizeMaxBytes);
    const path = `${kind === 'config' ? 'blobs' : 'manifests'}/${digest}`;
    return (await this.#document(path, { what: `Cannot read ${label}`, sizeMaxBytes })).bytes;
  }

  #document(
    path: string,
    { what, sizeMaxBytes }: { what: string; sizeMaxBytes: number },
  ): Promise<{ bytes: Buffer; type: string }> {
    const headers = {
      Accept: [...manifestTypes, ...indexTypes].join(', '),
      'Accept-Encoding': 'identity',
    };
    const attempt = async (signal: AbortSignal) => {
      const answer = await this.#client.get({ what, path, headers, accepted: [200], signal });
      const bytes = await answer.bytes(sizeMaxBytes);
      if (bytes === undefined) throw oversized(what, sizeMaxBytes);
      const type = answer.headers['content-type'] ?? '';
      return { bytes, type: type.split(';')[0]!.trim().toLowerCase() };
    };
    const deadline = { what, host: this.#name.host, signal: this.#signal };
    return new Attempts(this.#rules).run(() => withDeadline(deadline, attempt), this.#signal);
  }

  #keep(digest: OciDigest, bytes: Buffer): void {
    if (this.#kept.has(digest) || this.#keptBytes + bytes.length > keptDocumentsMaxBytes) return;
    this.#kept.set(digest, bytes);
    this.#keptBytes += bytes.length;
  }

  /** What the document names, and where that is to be read. */
  #learn(bytes: Buffer, digest: OciDigest, { mediaType }: Named): void {
    const kind = documentKind(mediaType, this.reference);
    if (kind === 'index') {
      for (const { mediaType, digest: child, sizeBytes } of parseIndex(
        bytes,
        `index ${digest} of ${this.reference}`,
      )) {
        this.#manifests.set(child, { kind: 'manifest', mediaType, sizeBytes });
      }
      return;
    }
    const { config, layers } = parseManifest(bytes, `manifest ${digest} of ${this.reference}`);
    this.#blobs = new Map(layers.map(layer => [layer.digest, { ...layer, kind: 'layer' }]));
    this.#blobs.set(config.digest, { ...config, kind: 'config' });
    this.#layers?.close();
    // The flattener reads the top layer first.
    const order = layers.map(layer => layer.digest).reverse();
    this.#layers = new LayerDownloads(order, (layer, signal) => this.#download(layer, signal));
  }

  #download(digest: OciDigest, signal: AbortSignal): AsyncIterable<Buffer> {
    return downloadBlob(this.#client, {
      what: `Cannot read layer ${digest} of ${this.reference}`,
      digest,
      sizeBytes: this.#named(digest)!.sizeBytes,
      rules: this.#rules,
      signal: AbortSignal.any([this.#signal, signal]),
    });
  }
}

/** Whether a Content-Type says what the document is; some servers send all files as JSON or bytes. */
function isTelling(type: string): boolean {
  return type.startsWith('application/vnd.');
}

/** Of a document whose answer did not say; the parser refuses it if it is neither. */
function mediaTypeOf(bytes: Buffer): string {
  let document: unknown;
  try {
    document = JSON.parse(bytes.toString());
  } catch {
    document = undefined;
  }
  const fields = isObject(document) ? document : {};
  if (typeof fields['mediaType'] === 'string') return fields['mediaType'];
  return fields['manifests'] === undefined ? manifestTypes[0]! : indexTypes[0]!;
}

function oversized(what: string, sizeMaxBytes: number): ImgstoreError {
  return new ImgstoreError('LIMIT', `${what}: it has over ${sizeMaxBytes} bytes`, {
    hint: 'No image that runs has such a document.',
  });
}
