/**
 * One node of five in trouble, while one chunk in ten lacks its shard at another: reads neither wait
 * for it, but for the first few, nor miss what the others have.
 */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Random } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { sealedChunks } from '../../support/sealed-chunks.ts';
import { type ConnectionFault, TcpProxy } from '../../support/tcp-proxy.ts';
import { Fleet, key, settled, timeoutMs } from './fleet.ts';

const waitMaxMs = 300;
/** What opens a breaker, and what is under way then. */
const firstMax = 16;
const troubled = 2;

type Trouble = (fleet: Fleet, proxy: TcpProxy) => Promise<(() => Promise<void>) | undefined>;

const connection = (fault: ConnectionFault): Trouble => {
  return async (_fleet, proxy) => {
    proxy.fault = fault;
    return undefined;
  };
};

const troubles: Readonly<Record<string, Trouble>> = {
  // Four times what is waited, as 200 ms are for the wait that is the default.
  slow: connection({ do: 'delay', waitMs: 4 * waitMaxMs }),
  stopped: connection({ do: 'stall' }),
  resetting: connection({ do: 'reset' }),
  garbage: connection({ do: 'garbage', bytes: () => new Random(3).bytes(500) }),
  flipping: connection({ do: 'flip' }),
  dead: async fleet => {
    await fleet.servers[troubled]!.kill();
    return undefined;
  },
  full: async fleet => {
    await fleet.servers[troubled]!.restart({ memoryMiB: 2, flags: ['-M'] });
    return undefined;
  },
  restarting: async fleet => () => fleet.servers[troubled]!.restart(),
};

for (const [name, begin] of Object.entries(troubles)) {
  test(`one node of five: ${name}`, async (context: TestContext) => {
    const fleet = await Fleet.start(context);
    const proxy = await TcpProxy.start(context, fleet.servers[troubled]!);
    const port = proxy.port;
    const nodes = fleet.nodes.map((node, at) => (at === troubled ? { ...node, port } : node));
    const source = fleet.open({ nodes, waitMaxMs });
    const chunks = sealedChunks(new Random(1), 100, 100_000);
    await Promise.all(chunks.map(({ id, sealed }) => source.put(id, sealed)));
    const other = fleet.client(0);
    const lacking = chunks.filter((_, at) => at % 10 === 0);
    for (const { id } of lacking) await other.delete(key(id), { timeoutMs });
    const again = await begin(fleet, proxy);
    let misses = 0;
    let waited = 0;
    for (let round = 0; round < 6; round++) {
      await again?.();
      const queue = [...chunks];
      const reader = async () => {
        for (let chunk = queue.shift(); chunk !== undefined; chunk = queue.shift()) {
          const { id, sealed } = chunk;
          const startedMs = performance.now();
          const hit = await source.get(id, { sizeBytes: sealed.length });
          if (performance.now() - startedMs >= 0.9 * waitMaxMs) waited++;
          if (hit !== undefined) assertSameBytes(hit.sealed, sealed);
          // As from the store.
          else await source.put(id, sealed);
          if (hit === undefined) misses++;
        }
      };
      await Promise.all([reader(), reader(), reader()]);
    }
    context.diagnostic(`${misses} misses, ${waited} waits`);
    assert.ok(misses <= lacking.length, `${misses} misses of 600 reads`);
    assert.ok(waited <= firstMax, `${waited} waits`);
    proxy.fault = undefined;
    await settled(source);
  });
}
