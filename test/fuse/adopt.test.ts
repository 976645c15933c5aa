/** A server dies in the middle of reads; another takes its connection over. Needs root. */

import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { MiB } from '../../src/base/limits.ts';
import { FuseServer } from '../../src/fuse/server.ts';
import { copyDescriptor } from '../../src/fuse/system-calls.ts';
import { createTestMounts, killChild } from '../support/mounts.ts';
import { mountsBelow, runChecked, runCommand } from '../support/processes.ts';
import type { FileSpec } from './disk-server.ts';
import { type Served, serve, waitFor } from './served.ts';

const reader = join(import.meta.dirname, 'reader.ts');

/** The connection's descriptor in this process, which keeps it alive. */
async function keep(served: Served, context: TestContext): Promise<number> {
  const { pid, fd } = await served.state();
  const kept = copyDescriptor({ pid, fd });
  context.after(() => closeSync(kept));
  return kept;
}

test('readers see a pause and no wrong byte when servers are killed', async t => {
  const mounts = createTestMounts(t);
  const mountPoint = mounts.folder('fuse');
  const specs: FileSpec[] = [
    { id: 'm1', serial: 1, seed: 1, sizeBytes: 32 * MiB, delayMs: 12 },
    { id: 'm9', serial: 9, seed: 9, sizeBytes: 9 * MiB, delayMs: 5 },
  ];
  let served = await serve(mounts, mountPoint);
  for (const spec of specs) await served.add(spec);
  const descriptor = await keep(served, t);
  const { state } = await served.state();
  const modes = ['sequential', 'random', 'direct', 'mmap'];
  const args = (mode: string, seed: number): string[] => [
    reader,
    mode,
    served.path(`m${seed}`),
    String(seed),
  ];
  const reads = Promise.all([
    ...modes.map(mode => runChecked(process.execPath, args(mode, 1))),
    runChecked(process.execPath, args('sequential', 9)),
  ]);
  let isDone = false;
  reads.then(() => (isDone = true)).catch(() => (isDone = true));
  let killed = 0;
  let killedInFlight = 0;
  while (!isDone && killed < 4) {
    await new Promise(resolve => setTimeout(resolve, 200));
    killedInFlight += (await served.stats('m1')).inFlight;
    await killChild(served.child);
    killed++;
    served = await serve(mounts, mountPoint, { descriptor, takeover: { state, specs } });
  }
  await reads;
  assert.ok(killed >= 2 && killedInFlight > 0, `${killed} killed, ${killedInFlight} in flight`);
  assert.deepEqual(served.log, []);
  // The successor is a server like any other.
  assert.deepEqual((await served.state()).state, state);
  const late = await served.add({ id: 'm10', serial: 10, seed: 10, sizeBytes: MiB });
  await runChecked(process.execPath, [reader, 'sequential', late, '10']);
  await served.command({ do: 'remove', id: 'm1' });
  assert.equal((await runCommand('stat', [served.path('m1')])).exitCode, 1);
  await served.command({ do: 'close' });
  assert.deepEqual(mountsBelow(mounts.dir), []);
});

test('a server that stops on its own leaves its reads to the next', async t => {
  const mounts = createTestMounts(t);
  const mountPoint = mounts.folder('fuse');
  const spec: FileSpec = { id: 'm1', serial: 1, seed: 1, sizeBytes: MiB, delayMs: 60_000 };
  const first = await serve(mounts, mountPoint);
  const path = await first.add(spec);
  const descriptor = await keep(first, t);
  const { state } = await first.state();
  const read = runChecked(process.execPath, [reader, 'sequential', path, '1']);
  await waitFor(async () => (await first.stats('m1')).inFlight > 0);
  await first.command({ do: 'exit' });
  const specs = [{ ...spec, delayMs: 0 }];
  await serve(mounts, mountPoint, { descriptor, takeover: { state, specs } });
  await read;
});

test('without a kernel that sends again, taking over is refused', () => {
  const state = { mountPoint: '/nowhere', negotiated: { protocolMinor: 36, resend: false } };
  assert.throws(() => FuseServer.adopt({ fd: 0, state, files: [], log: () => {} }), {
    name: 'ImgstoreError',
    code: 'UNSUPPORTED',
  });
});
