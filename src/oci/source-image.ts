/**
 * One image of a source, platform chosen, documents verified; its layers as tar streams.
 * Sources (source/) make it, the flattener (layer/) reads it.
 */

import type { OciDigest } from '../base/digest.ts';

export interface SourcePlatform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface SourceLayer {
  /** Of the blob as it is stored. */
  digest: OciDigest;
  /** Of the blob as it is stored. */
  sizeBytes: number;
  /** Of the uncompressed tar, from the config. */
  diffId: OciDigest;
}

export interface OpenLayerOptions {
  signal?: AbortSignal;
  /** The layers that will most likely be opened next, in this order; else all below, top down. */
  ahead?: readonly number[];
}

/**
 * Contract: openLayer may be called several times for one layer, and for several layers at once.
 * The iteration ends normally only if the blob's size, its digest and the tar's diffID were all
 * right and the layer stayed within its size limit; else it throws an ImgstoreError. Bytes seen
 * before the end are thus not to be trusted. A yielded buffer belongs to the consumer.
 */
export interface SourceImage {
  /** Where it came from, for messages. */
  readonly reference: string;
  readonly manifestDigest: OciDigest;
  readonly platform: SourcePlatform;
  /** The config blob's exact text; well-formed JSON with rootfs.diff_ids as many as layers. */
  readonly configText: string;
  /** Bottom first. */
  readonly layers: readonly SourceLayer[];
  /** The uncompressed tar. */
  openLayer(index: number, options: OpenLayerOptions): AsyncIterable<Buffer>;
  close(): Promise<void>;
}
