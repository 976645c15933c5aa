import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import {
  type ListenAddress,
  MetricsServer,
  parseListenAddress,
} from '../../src/daemon/metrics-server.ts';
import { parseMetrics } from '../support/metrics-parser.ts';
import { waitUntil } from '../support/poll.ts';
import { createTestHome } from '../support/processes.ts';

const here: ListenAddress = { host: '127.0.0.1', port: 0 };

async function serve(context: TestContext, text: () => string) {
  const lines: string[] = [];
  const log = (_: string, message: string) => lines.push(message);
  const server = new MetricsServer({ address: here, text, log, requestMaxMs: 400 });
  context.after(() => server.close());
  await waitUntil('it listens', () => !server.state.address.endsWith(':0'));
  return { url: `http://${server.state.address}`, port: portOf(server), lines };
}

function portOf(server: MetricsServer): number {
  return Number(server.state.address.split(':').at(-1));
}

/** Everything that it says to these bytes until it ends the connection. */
async function say(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.setEncoding('latin1');
  socket.write(bytes, 'latin1');
  let said = '';
  socket.on('data', part => {
    said += part;
  });
  await once(socket, 'close');
  return said;
}

test('an address is HOST:PORT', () => {
  const parse = (text: string) => parseListenAddress({ text, source: 'IMGSTORE_METRICS' });
  assert.deepEqual(parse('127.0.0.1:9464'), { host: '127.0.0.1', port: 9464 });
  assert.deepEqual(parse('[::1]:1'), { host: '::1', port: 1 });
  assert.deepEqual(parse('worker-7.example:0'), { host: 'worker-7.example', port: 0 });
  for (const text of ['9464', ':9464', 'a:', 'a:65536', 'a:9464/x', '::1:9464', 'a b:1', '[]:1']) {
    assert.throws(
      () => parse(text),
      (error: unknown) => error instanceof ImgstoreError && error.code === 'USAGE',
      text,
    );
  }
});

test('it answers GET and HEAD of /metrics, and nothing else', async context => {
  const { url } = await serve(context, () => 'a 1\n');
  const answer = await fetch(`${url}/metrics?x=1`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  assert.equal(await answer.text(), 'a 1\n');
  const head = await fetch(`${url}/metrics`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), '');
  for (const path of ['/', '/metrics/', '/status', '/mounts', '//metrics', '/stop?force=1']) {
    assert.equal((await fetch(url + path)).status, 404, path);
  }
  for (const method of ['POST', 'DELETE', 'PUT', 'OPTIONS']) {
    assert.equal((await fetch(`${url}/metrics`, { method })).status, 405, method);
  }
});

test('the text is made once a second, however often it is asked for', async context => {
  let made = 0;
  const { url } = await serve(context, () => `a ${++made}\n`);
  for (let i = 0; i < 50; i++) assert.equal((await fetch(`${url}/metrics`)).status, 200);
  assert.ok(made <= 2, `${made} times`);
});

test('what is no request is refused, and it goes on', async context => {
  const { url, port } = await serve(context, () => 'a 1\n');
  const requests = [
    'nonsense\r\n\r\n',
    'GET /metrics HTTP/9.9\r\n\r\n',
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
    `GET /metrics HTTP/1.1\r\nhost: a\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
    'GET /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n',
    'CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n',
    '\u0016\u0003\u0001\u0002\u0000\u0001\u0000',
  ];
  for (const request of requests) {
    const said = await say(port, request);
    assert.match(said, /^(HTTP\/1\.1 4\d\d |$)/, request.slice(0, 30));
  }
  assert.equal((await fetch(`${url}/metrics`)).status, 200);
});

test('connections are bounded, and those that are silent end', async context => {
  const { port, url } = await serve(context, () => 'a 1\n');
  const sockets: Socket[] = [];
  context.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  let closed = 0;
  for (let i = 0; i < 40; i++) {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('close', () => closed++);
    socket.resume();
    if (i % 2 === 0) socket.write('GET /metrics HTTP/1.1\r\n');
  }
  await waitUntil('the surplus is closed', () => closed >= 40 - 16);
  await waitUntil('the silent are closed', () => closed === 40);
  assert.equal((await fetch(`${url}/metrics`)).status, 200);
});

test('a port that is taken is warned of once, and taken when it is free', async context => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const lines: string[] = [];
  const server = new MetricsServer({
    address: { host: '127.0.0.1', port },
    text: () => '\n',
    log: (level, message) => lines.push(`${level} ${message}`),
    retryMs: 10,
  });
  context.after(() => server.close());
  await waitUntil('it is told', () => server.state.problem !== null);
  assert.match(server.state.problem!, /127\.0\.0\.1:\d+: the address is in use/);
  await new Promise(resolve => setTimeout(resolve, 50));
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /^warn Cannot serve metrics/);
  other.close();
  await waitUntil('it listens', () => server.state.problem === null);
  assert.match(lines[1]!, /^info Metrics are served/);
});

test('the daemon serves them where IMGSTORE_METRICS says, and status shows it', async context => {
  const home = createTestHome(context);
  const env = { IMGSTORE_METRICS: '127.0.0.1:0' };
  await home.runChecked(['daemon', 'start'], { env });
  const { stdout } = await home.runChecked(['daemon', 'status']);
  const url = /http:\/\/127\.0\.0\.1:[1-9]\d*\/metrics/.exec(stdout)?.[0];
  assert.ok(url !== undefined, stdout);
  const text = await (await fetch(url)).text();
  assert.ok(parseMetrics(text).some(({ name }) => name === 'imgstore_mounts'));
  await home.runChecked(['daemon', 'stop']);
  await assert.rejects(fetch(url));

  const taken = createServer().listen(0, '127.0.0.1');
  context.after(() => void taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  await home.runChecked(['daemon', 'start'], { env: { IMGSTORE_METRICS: `127.0.0.1:${port}` } });
  const status = (await home.runChecked(['daemon', 'status'])).stdout;
  assert.match(status, /metrics: +Cannot serve metrics at .*: the address is in use/);
  await home.runChecked(['daemon', 'stop']);

  const wrong = await home.run(['daemon', 'start'], { env: { IMGSTORE_METRICS: '9464' } });
  assert.equal(wrong.exitCode, 1);
  assert.match(wrong.stderr, /Cannot use IMGSTORE_METRICS: "9464"/);
});
