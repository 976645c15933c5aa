import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { MiB } from '../../../src/base/limits.ts';
import {
  MemcachedClient,
  type MemcachedOptions,
  valueSizeMaxBytes,
} from '../../../src/cache/fleet/client.ts';
import { MemcachedServer } from '../../support/memcached.ts';
import { Random } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { until } from '../../support/until.ts';

const timeoutMs = 5000;
const sizeMaxBytes = valueSizeMaxBytes;
const read = { sizeMaxBytes, timeoutMs };

function open(context: TestContext, options: MemcachedOptions): MemcachedClient {
  const { host, port, ...rest } = options;
  const client = new MemcachedClient({ host, port, random: () => 0, ...rest });
  context.after(() => client.close());
  return client;
}

async function openReal(context: TestContext, memoryMiB = 64) {
  const server = await MemcachedServer.start(context, { memoryMiB });
  return { server, client: open(context, server) };
}

/** A server that says what it is told to, whenever something comes. */
async function openFake(
  context: TestContext,
  reply: (socket: Socket, request: string) => void,
  options: Partial<MemcachedOptions> = {},
) {
  const sockets: Socket[] = [];
  const server = createServer(socket => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', bytes => reply(socket, bytes.toString('latin1')));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  context.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = server.address() as { port: number };
  return { client: open(context, { host: '127.0.0.1', port, ...options }), sockets };
}

function isFault(code: string, state: RegExp) {
  return (error: unknown) =>
    error instanceof ImgstoreError && error.code === code && state.test(error.message);
}

const opaqueIn = (request: string) => /O(\d+)\r\n/.exec(request)![1];

test('values of all sizes, in parts, overwritten, deleted', async context => {
  const { client } = await openReal(context);
  const random = new Random(1);
  for (const sizeBytes of [0, 1, 2, 65_535, 131_072, 1_000_000]) {
    const value = random.bytes(sizeBytes);
    const parts = [value.subarray(0, sizeBytes >> 1), value.subarray(sizeBytes >> 1)];
    assert.equal(await client.get('key', read), 'absent');
    assert.equal(await client.set('key', [random.bytes(9)], { timeoutMs }), 'stored');
    assert.equal(await client.set('key', parts, { timeoutMs }), 'stored');
    assertSameBytes((await client.get('key', read)) as Buffer, value);
    await client.delete('key', { timeoutMs });
    await client.delete('key', { timeoutMs });
  }
});

test('a key is added once, until it is deleted or its time is over', async context => {
  const { client } = await openReal(context);
  const note = { lifetimeSeconds: 2, timeoutMs };
  const add = (key: string) => client.add(key, note);
  assert.deepEqual(await Promise.all(['a', 'a', 'b', 'a'].map(add)), [
    'stored',
    'taken',
    'stored',
    'taken',
  ]);
  assert.equal(((await client.get('a', read)) as Buffer).length, 0);
  await client.delete('a', { timeoutMs });
  assert.equal(await add('a'), 'stored');
  await client.set('c', [Buffer.alloc(5)], { timeoutMs });
  assert.equal(await add('c'), 'taken');
  const startedMs = performance.now();
  await client.add('d', { lifetimeSeconds: 1, timeoutMs });
  while ((await add('d')) === 'taken') await sleep(20);
  // The server's clock goes by whole seconds.
  assert.ok(performance.now() - startedMs < 5000);
});

test('many at once, on one connection, each with its own answer', async context => {
  const { client } = await openReal(context);
  const random = new Random(2);
  const values = Array.from({ length: 40 }, (_, i) => Buffer.alloc(100_000 + i, random.bytes(61)));
  await Promise.all(values.map((value, i) => client.set(`k${i}`, [value], { timeoutMs })));
  const asked = Array.from({ length: 150 }, () => random.below(50));
  const answers = await Promise.all(
    asked.map(i => client.get(`k${i}`, { sizeMaxBytes: 200_000, timeoutMs })),
  );
  for (const [n, i] of asked.entries()) {
    if (i >= 40) assert.equal(answers[n], 'absent');
    else assertSameBytes(answers[n] as Buffer, values[i]);
  }
  assert.equal(client.requests, 0);
});

test('a value that is larger than asked for is not delivered, and harms nobody', async context => {
  const { client } = await openReal(context);
  const value = Buffer.alloc(1000, 7);
  await client.set('key', [value], { timeoutMs });
  const [large, right] = await Promise.all([
    client.get('key', { sizeMaxBytes: 999, timeoutMs }),
    client.get('key', { sizeMaxBytes: 1000, timeoutMs }),
  ]);
  assert.equal(large, 'too large');
  assertSameBytes(right as Buffer, value);
});

test('what nobody wants any more passes on the same connection', async context => {
  const { client } = await openReal(context);
  const value = Buffer.alloc(500_000, 7);
  await client.set('key', [value], { timeoutMs });
  const abort = new AbortController();
  const unwanted = client.get('key', { ...read, signal: abort.signal });
  const wanted = client.get('key', read);
  abort.abort();
  assert.equal(await unwanted, 'unwanted');
  assertSameBytes((await wanted) as Buffer, value);
  assert.equal(await client.get('key', { ...read, signal: abort.signal }), 'unwanted');
});

test('an item beyond the server’s limit is refused, and the next one is not', async context => {
  const { client } = await openReal(context);
  assert.equal(await client.set('key', [Buffer.alloc(MiB)], { timeoutMs }), 'refused');
  assert.equal(await client.set('key', [Buffer.alloc(1000)], { timeoutMs }), 'stored');
});

test('a full server lets old ones go, or refuses', async context => {
  const { client } = await openReal(context, 2);
  const value = Buffer.alloc(130_000, 3);
  for (let i = 0; i < 100; i++) await client.set(`k${i}`, [value], { timeoutMs });
  for (let i = 0; i < 100; i++) {
    const answer = await client.get(`k${i}`, read);
    if (answer !== 'absent') assertSameBytes(answer as Buffer, value);
  }
});

test('a killed server fails what is under way; back, it is asked again', async context => {
  const { server, client } = await openReal(context);
  await client.set('key', [Buffer.alloc(10)], { timeoutMs });
  await server.pause();
  const asked = assert.rejects(client.get('key', read), isFault('UNAVAILABLE', /closed|ECONN/));
  await server.kill();
  await asked;
  await assert.rejects(client.get('key', read), isFault('UNAVAILABLE', /ECONNREFUSED/));
  await server.restart();
  assert.equal(await client.get('key', read), 'absent');
});

test('a stopped server costs the time-out; late answers pass', async context => {
  const { server, client } = await openReal(context);
  const value = Buffer.alloc(200_000, 5);
  await client.set('key', [value], { timeoutMs });
  await server.pause();
  const late = client.get('key', { sizeMaxBytes, timeoutMs: 30 });
  await assert.rejects(late, isFault('UNAVAILABLE', /no answer within 30 ms/));
  assert.equal(client.requests, 1);
  server.resume();
  assertSameBytes((await client.get('key', read)) as Buffer, value);
  assert.equal(client.requests, 0);
});

test('an answer that came while this process was busy is in time', async context => {
  const { client } = await openReal(context);
  const value = Buffer.alloc(900_000, 5);
  await client.set('key', [value], { timeoutMs });
  // Much longer than the time-out, and hardly longer: then the timer is not late.
  for (const busyMs of [100, 100, 51, 51, 52, 53]) {
    const asked = client.get('key', { sizeMaxBytes, timeoutMs: 50 });
    const busyUntilMs = performance.now() + busyMs;
    while (performance.now() < busyUntilMs);
    assertSameBytes((await asked) as Buffer, value);
  }
});

test('time for which this process was busy is given back, once', async context => {
  const { server } = await openReal(context);
  let busyMs = 0;
  const client = open(context, { host: server.host, port: server.port, busyMs: () => busyMs });
  await client.get('key', read);
  await server.pause();
  for (const busy of [30, 1000]) {
    const startedMs = performance.now();
    const asked = client.get('key', { sizeMaxBytes, timeoutMs: 40 });
    busyMs += busy;
    await assert.rejects(asked, isFault('UNAVAILABLE', /no answer within 40 ms/));
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs >= 38 + Math.min(busy, 40), `${tookMs} ms`);
  }
  server.resume();
});

test('a connection that has been silent for long is given up', async context => {
  const { server } = await openReal(context);
  let nowMs = 0;
  const client = open(context, { host: server.host, port: server.port, nowMs: () => nowMs });
  await client.get('key', read);
  await server.pause();
  const first = assert.rejects(
    client.get('key', read),
    isFault('UNAVAILABLE', /stopped answering/),
  );
  nowMs += 10_000;
  const second = client.get('key', { sizeMaxBytes, timeoutMs: 5 });
  await assert.rejects(second, isFault('UNAVAILABLE', /no answer within/));
  await first;
});

test('a connection full of requests that nobody answers is given up', async context => {
  let nowMs = 0;
  // Something comes all the time, but no answer.
  const { client } = await openFake(
    context,
    (socket, request) => {
      socket.write(`VA 1000 O${opaqueIn(request)}\r\n`);
    },
    { nowMs: () => nowMs },
  );
  const ask = () => client.get('k', { sizeMaxBytes: 2000, timeoutMs: 5 });
  const asked = await Promise.allSettled(Array.from({ length: 1024 }, ask));
  assert.ok(asked.every(({ status }) => status === 'rejected'));
  await assert.rejects(ask(), isFault('BUSY', /too many requests/));
  nowMs += 5000;
  await assert.rejects(ask(), isFault('UNAVAILABLE', /no answer within/));
  assert.equal(client.requests, 1);
});

test('requests and their bytes are bounded; beyond that they are refused at once', async context => {
  const { client } = await openFake(context, () => {});
  const asked = Array.from({ length: 1100 }, () => client.get('k', { sizeMaxBytes: 1, timeoutMs }));
  asked.push(...Array.from({ length: 100 }, () => client.get('k', read)));
  let refused = 0;
  for (const answer of asked) {
    answer.catch(error => {
      if (isFault('BUSY', /too many requests/)(error)) refused++;
    });
  }
  await until(() => refused > 0, 'some are refused');
  assert.equal(refused, 1200 - 1024);
  client.close();
  await Promise.allSettled(asked);
});

test('bytes under way are bounded too', async context => {
  const { client } = await openFake(context, () => {});
  const asked = Array.from({ length: 100 }, () => client.get('k', read));
  await assert.rejects(Promise.all(asked), isFault('BUSY', /too many requests/));
  assert.equal(client.requests, Math.floor((64 * MiB) / sizeMaxBytes));
  client.close();
  await Promise.allSettled(asked);
});

const lies: Record<string, (opaque: string) => string> = {
  'a value far beyond any limit': opaque => `VA 9000000000 O${opaque}\r\n`,
  'the token of another request': opaque => `VA 1 O${Number(opaque) + 1}\r\nx\r\n`,
  'no token': () => 'VA 1\r\nx\r\n',
  'an answer to a write': opaque => `HD O${opaque}\r\n`,
  'a refusal of a write': opaque => `NS O${opaque}\r\n`,
  'two answers': opaque => `EN O${opaque}\r\nEN O${opaque}\r\nEN O${opaque}\r\n`,
  'random bytes': () => new Random(3).bytes(5000).toString('latin1'),
};

for (const [name, lie] of Object.entries(lies)) {
  test(`a server that lies: ${name}`, async context => {
    const { client, sockets } = await openFake(context, (socket, request) => {
      socket.write(lie(opaqueIn(request)!), 'latin1');
    });
    const outcome = await client.get('key', { sizeMaxBytes: 10, timeoutMs }).catch(error => error);
    if (name !== 'two answers') assert.ok(isFault('CORRUPT', /memcached/)(outcome), `${outcome}`);
    await until(() => sockets[0]!.destroyed || sockets[0]!.readableEnded, 'it is hung up on');
  });
}

test('a failed connection is tried again after a wait that grows', async context => {
  let nowMs = 0;
  const { server } = await openReal(context);
  await server.kill();
  const { host, port } = server;
  const client = open(context, { host, port, nowMs: () => nowMs, random: () => 0.999 });
  const justNow = isFault('UNAVAILABLE', /just now/);
  for (const waitMs of [100, 200, 400, 800, 1600, 3200, 5000, 5000]) {
    await assert.rejects(client.get('key', read), isFault('UNAVAILABLE', /ECONNREFUSED/));
    nowMs += 0.99 * waitMs;
    await assert.rejects(client.get('key', read), justNow);
    nowMs += 0.01 * waitMs;
  }
});

test('closed, it fails what is under way and what comes', async context => {
  const { client } = await openFake(context, () => {});
  const asked = client.get('key', read);
  await sleep(1);
  client.close();
  await assert.rejects(asked, isFault('UNAVAILABLE', /it is closed/));
  await assert.rejects(client.get('key', read), isFault('UNAVAILABLE', /it is closed/));
  client.close();
});
