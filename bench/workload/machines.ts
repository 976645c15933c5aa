/**
 * What stands around the readers, each a process of its own: five memcached servers, and a store in
 * S3 that is far away. All of it ends with the workload, failed or not.
 */

import { MemcachedServer } from '../../test/support/memcached.ts';
import { ProxyProcess } from '../../test/support/proxy-process.ts';
import type { Link } from '../../test/support/shaping-proxy.ts';
import { MemoryS3Process } from '../memory-s3.ts';

/** A request's first byte within the region, and a tenth of what a worker's network takes. */
export const farLink: Link = { delayMs: 20, bytesPerSecond: 125e6 };
const nodeCount = 5;
const bucket = 'imgstore-bench';

export const storeEnvironment = {
  AWS_ACCESS_KEY_ID: 'nobody-checks',
  AWS_SECRET_ACCESS_KEY: 'nobody-checks',
};

export interface Address {
  host: string;
  port: number;
}

export class Machines implements AsyncDisposable {
  readonly nodes: readonly MemcachedServer[];
  readonly origin: MemoryS3Process;
  /** Between the origin and who reads. */
  readonly link: ProxyProcess;
  readonly #stack: AsyncDisposableStack;
  #stores = 0;

  private constructor(
    parts: { nodes: readonly MemcachedServer[]; origin: MemoryS3Process; link: ProxyProcess },
    stack: AsyncDisposableStack,
  ) {
    this.nodes = parts.nodes;
    this.origin = parts.origin;
    this.link = parts.link;
    this.#stack = stack;
  }

  /** `memoryMiB` for each node. */
  static async start({ memoryMiB }: { memoryMiB: number }): Promise<Machines> {
    await using stack = new AsyncDisposableStack();
    const context = { after: (fn: () => Promise<void>) => void stack.defer(fn) };
    const nodes: MemcachedServer[] = [];
    for (let at = 0; at < nodeCount; at++) {
      nodes.push(await MemcachedServer.start(context, { memoryMiB }));
    }
    const origin = stack.use(await MemoryS3Process.start());
    const { hostname: host, port } = new URL(origin.endpoint);
    const link = stack.use(await ProxyProcess.start({ host, port: Number(port) }, farLink));
    return new Machines({ nodes, origin, link }, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** A place for a store that nothing is in yet, near and far. */
  newStore(): { near: string; far: string } {
    const path = `s3://${bucket}/store-${this.#stores++}`;
    const url = (endpoint: string) => `${path}?endpoint=${endpoint}&region=us-east-1`;
    return {
      near: url(this.origin.endpoint),
      far: url(`http://${this.link.host}:${this.link.port}`),
    };
  }

  /** Empty. */
  async restartNodes(): Promise<void> {
    for (const node of this.nodes) await node.restart();
  }
}

/** The fleet as IMGSTORE_FLEET has it. */
export function fleetText(nodes: readonly Address[]): string {
  return nodes.map(({ host, port }, at) => `n${at}=${host}:${port}`).join();
}
