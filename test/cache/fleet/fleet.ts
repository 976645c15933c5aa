/** A fleet of real memcached servers for tests, and sources on it. */

import type { TestContext } from 'node:test';
import type { ChunkId } from '../../../src/base/digest.ts';
import { MemcachedClient, valueSizeMaxBytes } from '../../../src/cache/fleet/client.ts';
import type { FleetServer } from '../../../src/cache/fleet/fleet-config.ts';
import { FleetSource, type FleetSourceOptions } from '../../../src/cache/fleet/fleet-source.ts';
import { shardKey } from '../../../src/cache/fleet/format.ts';
import type { Shape } from '../../../src/erasure/reed-solomon.ts';
import { MemcachedServer, type MemcachedServerOptions } from '../../support/memcached.ts';
import type { SealedChunk } from '../../support/sealed-chunks.ts';
import { until } from '../../support/until.ts';

export const shape: Shape = { dataShards: 4, parityShards: 1 };
export const key = (id: ChunkId) => shardKey(id, shape);
export const timeoutMs = 5000;

export class Fleet {
  readonly servers: readonly MemcachedServer[];
  readonly nodes: readonly FleetServer[];
  readonly lines: string[] = [];
  readonly #context: TestContext;

  private constructor(context: TestContext, servers: readonly MemcachedServer[]) {
    this.#context = context;
    this.servers = servers;
    this.nodes = servers.map(({ host, port }, i) => serverOf(`n${i}`, host, port));
  }

  static async start(context: TestContext, count = 5, options: MemcachedServerOptions = {}) {
    const starting = Array.from({ length: count }, () => MemcachedServer.start(context, options));
    return new Fleet(context, await Promise.all(starting));
  }

  static of(context: TestContext, servers: readonly MemcachedServer[]): Fleet {
    return new Fleet(context, servers);
  }

  open(options: Partial<FleetSourceOptions> = {}): FleetSource {
    const log = (level: string, message: string) => void this.lines.push(`${level} ${message}`);
    // Long waits for nodes: what is slow on a busy machine is no fault. Short ones for workers, which
    // are none here. Tests of waits give their own.
    const source = new FleetSource({
      nodes: this.nodes,
      shape,
      log,
      waitMaxMs: timeoutMs,
      leaseWaitMaxMs: 20,
      ...options,
    });
    this.#context.after(() => source.close());
    return source;
  }

  /** A client that a test reaches into a node with. */
  client(at: number): MemcachedClient {
    const client = new MemcachedClient(this.nodes[at]!);
    this.#context.after(() => client.close());
    return client;
  }

  /** The value that a node has of a chunk. */
  async value(at: number, { id }: SealedChunk): Promise<Buffer> {
    const read = { sizeMaxBytes: valueSizeMaxBytes, timeoutMs };
    return (await this.client(at).get(key(id), read)) as Buffer;
  }
}

export function serverOf(name: string, host: string, port: number): FleetServer {
  return { name, host, port, weight: 1, domain: name };
}

/** When all requests have settled, and what they led to is done. */
export async function settled(source: FleetSource): Promise<void> {
  await until(() => source.isIdle, 'the source is idle');
}
