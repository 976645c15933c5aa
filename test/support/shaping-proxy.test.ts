import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ProxyProcess } from './proxy-process.ts';
import { Random } from './random.ts';

const answer = new Random(2).bytes(1_000_000);

/** Gives the answer to each byte that is sent to it. */
async function startService(context: TestContext): Promise<{ host: string; port: number }> {
  const server = createServer(socket => {
    socket.on('error', () => {});
    socket.on('data', bytes => {
      for (const _ of bytes) socket.write(answer);
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  context.after(() => server.close());
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

async function startProxy(context: TestContext, link: { delayMs: number; bytesPerSecond: number }) {
  const proxy = await ProxyProcess.start(await startService(context), link);
  context.after(() => proxy[Symbol.asyncDispose]());
  return proxy;
}

async function openSocket({ host, port }: ProxyProcess): Promise<Socket> {
  const socket = connect({ host, port });
  await once(socket, 'connect');
  return socket;
}

/** One answer, when its first byte came and when its last. */
async function ask(socket: Socket): Promise<{ firstMs: number; lastMs: number }> {
  const beganMs = performance.now();
  socket.write('?');
  const pieces: Buffer[] = [];
  let firstMs = 0;
  for (let sizeBytes = 0; sizeBytes < answer.length; ) {
    const [piece] = (await once(socket, 'data')) as [Buffer];
    if (sizeBytes === 0) firstMs = performance.now() - beganMs;
    sizeBytes += piece.length;
    pieces.push(piece);
  }
  assert.ok(Buffer.concat(pieces).equals(answer));
  return { firstMs, lastMs: performance.now() - beganMs };
}

test('an answer comes after the delay, and no faster than the link', async context => {
  const proxy = await startProxy(context, { delayMs: 50, bytesPerSecond: 10e6 });
  const socket = await openSocket(proxy);
  for (let round = 0; round < 2; round++) {
    const { firstMs, lastMs } = await ask(socket);
    assert.ok(firstMs >= 48 && lastMs >= 148, `${firstMs}, ${lastMs}`);
  }
  socket.destroy();
});

test('connections share the link', async context => {
  const proxy = await startProxy(context, { delayMs: 0, bytesPerSecond: 20e6 });
  const sockets = await Promise.all([1, 2, 3, 4].map(() => openSocket(proxy)));
  const beganMs = performance.now();
  await Promise.all(sockets.map(ask));
  const tookMs = performance.now() - beganMs;
  assert.ok(tookMs >= 198, `${tookMs}`);
  await proxy.setLink({ delayMs: 0, bytesPerSecond: 1e9 });
  await Promise.all(sockets.map(ask));
  for (const socket of sockets) socket.destroy();
});

test('a link that is cut resets and refuses, and is there again on its port', async context => {
  const proxy = await startProxy(context, { delayMs: 1, bytesPerSecond: 1e9 });
  const socket = await openSocket(proxy);
  const ended = once(socket, 'error');
  await proxy.setFault({ do: 'refuse' });
  const [error] = (await ended) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  await assert.rejects(openSocket(proxy), { code: 'ECONNREFUSED' });
  await proxy.setFault(undefined);
  const again = await openSocket(proxy);
  await ask(again);
  again.destroy();
});

test('without a link it does the faults of a TCP proxy', async context => {
  const proxy = await ProxyProcess.start(await startService(context));
  context.after(() => proxy[Symbol.asyncDispose]());
  await proxy.setFault({ do: 'delay', waitMs: 60 });
  const socket = await openSocket(proxy);
  assert.ok((await ask(socket)).firstMs >= 58);
  await proxy.setFault({ do: 'garbage' });
  const got = once(socket, 'data');
  socket.write('?');
  const [piece] = (await got) as [Buffer];
  assert.ok(!answer.subarray(0, piece.length).equals(piece));
  socket.destroy();
});
