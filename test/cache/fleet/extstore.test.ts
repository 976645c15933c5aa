/** Shards on flash: memcached with a file behind its memory, as docs/shared-cache.md recommends. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB, sealedChunkSizeMaxBytes } from '../../../src/base/limits.ts';
import type { FleetSource } from '../../../src/cache/fleet/fleet-source.ts';
import { MemcachedServer } from '../../support/memcached.ts';
import { Random } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { type SealedChunk, sealedChunks } from '../../support/sealed-chunks.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { Fleet, settled } from './fleet.ts';

async function startWithFlash(context: TestContext): Promise<MemcachedServer> {
  const file = join(temporaryFolder(context), 'flash');
  const flags = ['-I', '2m', '-o', `ext_page_size=8,ext_path=${file}:96m`];
  return MemcachedServer.start(context, { memoryMiB: 16, flags });
}

async function stat({ host, port }: MemcachedServer, name: string): Promise<number> {
  const socket = connect({ host, port });
  socket.write('stats\r\n');
  let answer = '';
  while (!answer.includes('END\r\n')) answer += String((await once(socket, 'data'))[0]);
  socket.destroy();
  return Number(new RegExp(`STAT ${name} (\\d+)\\r\\n`).exec(answer)![1]);
}

/** One after the other, since memory is freed at the pace of the flash. */
async function fill(source: FleetSource, chunks: readonly SealedChunk[]): Promise<void> {
  for (const { id, sealed } of chunks) {
    await source.put(id, sealed);
    await sleep(8);
  }
}

for (const [dataShards, parityShards, sizeBytes, count] of [
  [4, 1, 512 * KiB, 200],
  [4, 1, sealedChunkSizeMaxBytes, 100],
  [1, 0, sealedChunkSizeMaxBytes, 30],
] as const) {
  test(`chunks of ${sizeBytes} bytes as ${dataShards} + ${parityShards} on flash`, async context => {
    const nodesMax = dataShards + parityShards;
    const servers = await Promise.all(
      Array.from({ length: nodesMax }, () => startWithFlash(context)),
    );
    const source = Fleet.of(context, servers).open({ shape: { dataShards, parityShards } });
    const chunks = sealedChunks(new Random(1), count, sizeBytes);
    await fill(source, chunks);
    let hits = 0;
    for (const { id, sealed } of chunks) {
      const hit = await source.get(id, { sizeBytes });
      if (hit === undefined) continue;
      assertSameBytes(hit.sealed, sealed);
      hits++;
    }
    await settled(source);
    const fromFlash = await Promise.all(servers.map(server => stat(server, 'get_extstore')));
    context.diagnostic(`${hits} of ${count} hits; ${fromFlash} values from flash`);
    assert.ok(hits >= 0.9 * count, `${hits} of ${count}`);
    for (const values of fromFlash) assert.ok(values > count / 5, `${fromFlash}`);
    for (const { wrong, refused, failed } of source.stats().nodes) {
      assert.deepEqual({ ...wrong }, { unknown: 0, foreign: 0, damaged: 0, lie: 0 });
      assert.deepEqual([refused, failed], [0, 0]);
    }
  });
}
