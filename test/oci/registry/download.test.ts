/** Documents and layers of a registry that breaks, stalls, lies or is busy. */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ociDigest } from '../../../src/base/digest.ts';
import { MiB } from '../../../src/base/limits.ts';
import type { SourceImage } from '../../../src/oci/source-image.ts';
import { Random } from '../../support/random.ts';
import { tarOf } from '../../support/tar-builder.ts';
import { until } from '../../support/until.ts';
import { assertFault, readLayerOf } from '../source/streams.ts';
import {
  imageOf,
  type OddHandler,
  OddRegistry,
  type OpenOptions,
  openFrom,
} from './odd-registry.ts';

const random = new Random(5);
const tar = tarOf([{ path: 'file', content: random.bytes(3_000_000) }]);
const digest = ociDigest(tar);
const image = imageOf([tar]);

async function openOdd(
  context: TestContext,
  handler: OddHandler,
  options: OpenOptions = {},
): Promise<{ registry: OddRegistry; opened: SourceImage }> {
  const registry = await OddRegistry.start(context, image);
  const opened = await openFrom(`${registry.host}/app`, options);
  context.after(() => opened.close());
  registry.requests.length = 0;
  registry.handler = handler;
  return { registry, opened };
}

test('a download goes on where the connection broke, as often as it takes', async context => {
  // 500 KB a connection: more failures than attempts in a row, but always with progress.
  const { registry, opened } = await openOdd(context, ({ range }, response) => {
    const from = Number(/[0-9]+/.exec(range ?? '0')![0]);
    if (from > 0)
      response.setHeader('Content-Range', `bytes ${from}-${tar.length - 1}/${tar.length}`);
    response.writeHead(from > 0 ? 206 : 200, { 'Content-Length': tar.length - from });
    response.write(tar.subarray(from, from + 500_000), () =>
      setTimeout(() => response.destroy(), 20),
    );
    return true;
  });
  assert.ok((await readLayerOf(opened)).equals(tar));
  const ranges = registry.requests.map(request => request.range);
  assert.equal(ranges[0], undefined);
  assert.ok(ranges.length >= 7, `${ranges.length} requests`);
  for (const range of ranges.slice(1)) assert.match(range!, /^bytes=[1-9][0-9]*-$/);
});

test('a server without ranges sends the whole again, or says 416', async context => {
  for (const refuses of [false, true]) {
    let breaks = 2;
    const { registry, opened } = await openOdd(context, ({ range }, response) => {
      if (refuses && range !== undefined) {
        response.writeHead(416).end();
        return true;
      }
      response.writeHead(200, { 'Content-Length': tar.length });
      if (breaks-- > 0)
        response.write(tar.subarray(0, 2_000_000 - breaks), () => response.destroy());
      else response.end(tar);
      return true;
    });
    assert.ok((await readLayerOf(opened)).equals(tar));
    assert.ok(registry.requests.length >= 3);
  }
});

test('a range that starts early is passed over, one that starts late or nowhere is refused', async context => {
  const startingAt = (start: (asked: number) => string | undefined): OddHandler => {
    return ({ range }, response) => {
      if (range === undefined) {
        response.writeHead(200, { 'Content-Length': tar.length });
        response.write(tar.subarray(0, 100_000), () => setTimeout(() => response.destroy(), 20));
        return true;
      }
      const contentRange = start(Number(/[0-9]+/.exec(range)![0]));
      if (contentRange !== undefined) response.setHeader('Content-Range', contentRange);
      response.writeHead(206).end(tar.subarray(Number(/[0-9]+/.exec(contentRange ?? '0')?.[0])));
      return true;
    };
  };
  const end = `${tar.length - 1}/${tar.length}`;
  const early = await openOdd(
    context,
    startingAt(asked => `bytes ${asked - 1000}-${end}`),
  );
  assert.ok((await readLayerOf(early.opened)).equals(tar));
  for (const start of [
    (asked: number) => `bytes ${asked + 1}-${end}`,
    () => 'lines 1-2',
    () => undefined,
  ]) {
    const { opened, registry } = await openOdd(context, startingAt(start));
    await assertFault(readLayerOf(opened), 'UNAVAILABLE', 'range', digest);
    assert.ok(registry.requests.length <= 5, 'it is not asked for ever');
  }
});

test('what is put together wrongly is found out by its digest', async context => {
  const damaged = Buffer.from(tar);
  damaged[2_500_000]! ^= 1;
  const { opened } = await openOdd(context, ({ range }, response) => {
    const from = Number(/[0-9]+/.exec(range ?? '0')![0]);
    if (from > 0)
      response.setHeader('Content-Range', `bytes ${from}-${tar.length - 1}/${tar.length}`);
    response.writeHead(from > 0 ? 206 : 200, { 'Content-Length': tar.length - from });
    if (from === 0)
      response.write(tar.subarray(0, 1_000_000), () => setTimeout(() => response.destroy(), 20));
    else response.end(damaged.subarray(from));
    return true;
  });
  await assertFault(readLayerOf(opened), 'CORRUPT', digest);
});

test('a layer of another size than the manifest says is refused', async context => {
  const sizes = [tar.subarray(0, 1000), Buffer.alloc(0), Buffer.concat([tar, Buffer.alloc(1)])];
  for (const bytes of sizes) {
    for (const chunked of [false, true]) {
      const { opened, registry } = await openOdd(context, (_, response) => {
        if (!chunked) response.setHeader('Content-Length', bytes.length);
        response.end(bytes);
        return true;
      });
      await assertFault(readLayerOf(opened), 'CORRUPT', digest);
      assert.equal(registry.requests.length, 1);
    }
  }
});

test('a connection that breaks without progress is given up, as is one that is silent', async context => {
  const broken = await openOdd(context, (_, response) => response.destroy() && true);
  await assertFault(readLayerOf(broken.opened), 'UNAVAILABLE', 'the connection broke', digest);
  assert.equal(broken.registry.requests.length, 4);
  const silent = await openOdd(context, (_, response) => {
    response.writeHead(200, { 'Content-Length': tar.length });
    return response.write(tar.subarray(0, 10)) || true;
  });
  await assertFault(readLayerOf(silent.opened), 'UNAVAILABLE', 'does not go on sending');
  const mute = await openOdd(context, () => true);
  await assertFault(readLayerOf(mute.opened), 'UNAVAILABLE', 'does not answer');
  assert.equal(mute.registry.requests.length, 4);
});

test('a reader who takes his time is not taken for a silent server', async context => {
  const { opened, registry } = await openOdd(context, () => false, {
    timing: { answerMs: 300, silenceMs: 50 },
  });
  let sizeBytes = 0;
  for await (const piece of opened.openLayer(0, {})) {
    if (sizeBytes === 0) await new Promise(resolve => setTimeout(resolve, 300));
    sizeBytes += piece.length;
  }
  assert.deepEqual([sizeBytes, registry.requests.length], [tar.length, 1]);
});

test('who is told to come back later does so, unless that is too late', async context => {
  for (const status of [429, 503]) {
    let refusals = 2;
    const { opened, registry } = await openOdd(context, (_, response) => {
      if (refusals-- <= 0) return false;
      response.writeHead(status, { 'Retry-After': refusals === 0 ? '1' : '0' }).end();
      return true;
    });
    const started = performance.now();
    assert.ok((await readLayerOf(opened)).equals(tar));
    assert.ok(performance.now() - started >= 1000);
    assert.equal(registry.requests.length, 3);
  }
  const { opened, registry } = await openOdd(context, (_, response) => {
    const body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"s3cret"}]}';
    response.writeHead(429, { 'Retry-After': '3600' }).end(body);
    return true;
  });
  await assertFault(readLayerOf(opened), 'UNAVAILABLE', '429 TOOMANYREQUESTS', '3600 s');
  assert.equal(registry.requests.length, 1);
  const gone = await openOdd(context, (_, response) => response.writeHead(404).end() && true);
  await assertFault(readLayerOf(gone.opened), 'NOT_FOUND', digest);
});

test('a manifest must have the digest that was asked for, and one that can be held', async context => {
  const registry = await OddRegistry.start(context, image);
  const answerWith = (manifest: Buffer, type: string) => {
    registry.handler = ({ path }, response) => {
      if (!path.includes('/manifests/')) return false;
      response.writeHead(200, { 'Content-Type': type }).end(manifest);
      return true;
    };
  };
  const oci = 'application/vnd.oci.image.manifest.v1+json';
  const wanted = ociDigest(image.manifest);
  answerWith(Buffer.concat([image.manifest, Buffer.from(' ')]), oci);
  await assertFault(openFrom(`${registry.host}/app@${wanted}`), 'CORRUPT', wanted);
  await (await openFrom(`${registry.host}/app`)).close();

  answerWith(Buffer.alloc(4 * MiB + 1, ' '), oci);
  await assertFault(openFrom(`${registry.host}/app`), 'LIMIT', '4194304');
  answerWith(Buffer.from('no JSON'), 'text/plain');
  await assertFault(openFrom(`${registry.host}/app`), 'CORRUPT');
  answerWith(
    Buffer.from('{"schemaVersion":1}'),
    'application/vnd.docker.distribution.manifest.v1+prettyjws',
  );
  await assertFault(openFrom(`${registry.host}/app`), 'UNSUPPORTED', 'schema 1');
  answerWith(image.manifest, 'application/vnd.oci.image.index.v1+json');
  await assertFault(openFrom(`${registry.host}/app`), 'CORRUPT', 'index');
  // Some serve documents from plain storage, which does not know their types.
  for (const type of [
    'application/json',
    'application/octet-stream',
    'TEXT/plain; charset=utf-8',
  ]) {
    answerWith(image.manifest, type);
    await (await openFrom(`${registry.host}/app@${wanted}`)).close();
  }
});

test('the next layers are begun ahead, a bounded number and amount of them, each once', async context => {
  const tars = Array.from({ length: 7 }, (_, i) =>
    tarOf([{ path: `${i}`, content: random.bytes(100) }]),
  );
  const registry = await OddRegistry.start(context, imageOf(tars));
  const opened = await openFrom(`${registry.host}/app`);
  context.after(() => opened.close());
  registry.requests.length = 0;
  const layers = opened.layers.map(layer => layer.digest);
  const asked = () =>
    registry.requests.map(({ path }) => layers.indexOf(path.split('/').at(-1) as never));
  const top = opened.openLayer(6, {})[Symbol.asyncIterator]();
  await top.next();
  await until(() => asked().length === 4, 'three are begun');
  assert.deepEqual(asked().sort(), [3, 4, 5, 6]);
  await top.return?.();
  for (let i = 6; i >= 0; i--) assert.ok((await readLayerOf(opened, i)).equals(tars[i]!));
  assert.deepEqual(asked().sort(), [0, 1, 2, 3, 4, 5, 6, 6]);
  assert.ok((await readLayerOf(opened, 3)).equals(tars[3]!));
  assert.equal(asked().length, 9, 'who reads again gets no others begun');
});

test('a reader who says what is next gets no other layers begun', async context => {
  const tars = Array.from({ length: 6 }, (_, i) =>
    tarOf([{ path: `${i}`, content: random.bytes(100) }]),
  );
  const registry = await OddRegistry.start(context, imageOf(tars));
  const opened = await openFrom(`${registry.host}/app`);
  context.after(() => opened.close());
  registry.requests.length = 0;
  const layers = opened.layers.map(layer => layer.digest);
  const asked = () =>
    registry.requests.map(({ path }) => layers.indexOf(path.split('/').at(-1) as never));
  for await (const _ of opened.openLayer(5, { ahead: [2] }))
    await until(() => asked().length > 1, 'the next is begun');
  assert.deepEqual(asked().sort(), [2, 5]);
  for await (const _ of opened.openLayer(2, { ahead: [] }));
  assert.deepEqual(asked().sort(), [2, 5]);
});

test('what is not wanted any more is ended: by an abort, by a reader who leaves, by the close', async context => {
  const large = [0, 1, 2].map(i => tarOf([{ path: `${i}`, content: Buffer.alloc(30_000_000, i) }]));
  const registry = await OddRegistry.start(context, imageOf(large));
  const opened = await openFrom(`${registry.host}/app`);
  context.after(() => opened.close());
  const reason = new Error('enough');
  const abort = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of opened.openLayer(2, { signal: abort.signal })) abort.abort(reason);
  }, reason);
  for await (const _ of opened.openLayer(1, {})) break;
  await opened.close();
  const deadlineMs = performance.now() + 5000;
  while ((await registry.openConnections) > 0) {
    assert.ok(performance.now() < deadlineMs, 'connections are closed');
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  registry.handler = () => true;
  const opening = openFrom(`${registry.host}/app`, { signal: AbortSignal.timeout(50) });
  await assert.rejects(opening, { name: 'TimeoutError' });
});

test('a host that is not there, or is no registry, is named', async context => {
  const registry = await OddRegistry.start(context, image, {
    handler: (_, response) => response.socket!.end('SSH-2.0-odd\r\n') && true,
  });
  await assertFault(openFrom(`${registry.host}/app`), 'UNAVAILABLE', 'does not speak HTTP');
  await assertFault(
    openFrom('127.0.0.1:1/app'),
    'UNAVAILABLE',
    '127.0.0.1:1 refuses the connection',
  );
});
