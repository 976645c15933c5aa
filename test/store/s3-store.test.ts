/** The store in S3 against a radosgw of this test's own, which s3-faults.ts and s3-road.ts share. */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { RetryableFault } from '../../src/base/retry.ts';
import { openStore } from '../../src/store/open-store.ts';
import { parseS3Location } from '../../src/store/s3-location.ts';
import { S3Store, type S3StoreOptions } from '../../src/store/s3-store.ts';
import { isFault, keysOf, testCopyingStore, testObjectStore } from '../contract/object-store.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { startCommand } from '../support/processes.ts';
import { createBucket, startRadosGateway } from '../support/radosgw.ts';
import { seeded } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { type S3Service, testFaults } from './s3-faults.ts';
import { testRoad } from './s3-road.ts';

const gateway = await startRadosGateway();
after(() => gateway.close());
Object.assign(process.env, gateway.environment);
const bucket = 'imgstore-tests';
const client = new S3Client({ endpoint: gateway.endpoint, forcePathStyle: true });
await createBucket(gateway, bucket);
const sizeMaxBytes = 1024 * 1024;

let places = 0;
/** A place that nothing is in yet. */
function place(): string {
  return `s3://${bucket}/place-${places++}`;
}

function urlOf(where: string, endpoint: string): string {
  return `${where}?endpoint=${endpoint}&region=us-east-1`;
}

function storeAt(where: string, options: S3StoreOptions = {}): S3Store {
  return new S3Store(parseS3Location(urlOf(where, gateway.endpoint)), options);
}

testObjectStore('S3 store', () => openStore(urlOf(place(), gateway.endpoint)));
testCopyingStore('S3 store', () => openStore(urlOf(place(), gateway.endpoint)));

test('lists come in pages, each object once, below a prefix of whole parts', async () => {
  const where = place();
  const writer = storeAt(where);
  const expected = Array.from({ length: 1100 }, (_, i) => `n/${i % 7}/${i}`);
  await Promise.all(expected.map(key => writer.put(key, Buffer.alloc(1), { ifAbsent: false })));
  await writer.put('nn/x', Buffer.alloc(1), { ifAbsent: false });
  for (const options of [{}, { pageKeysMax: 100 }]) {
    const store = storeAt(where, options);
    assert.deepEqual(await keysOf(store, 'n'), [...expected].sort());
    const part = expected.filter(key => key.startsWith('n/3/'));
    assert.deepEqual(await keysOf(store, 'n/3'), part.sort());
  }
});

test('a list of few objects is one request', async context => {
  const proxy = await FaultProxy.start(context, gateway.endpoint);
  const store = new S3Store(parseS3Location(urlOf(place(), proxy.endpoint)));
  for (const key of ['s/1', 's/2', 'x']) {
    await store.put(key, Buffer.alloc(1), { ifAbsent: false });
  }
  proxy.take();
  assert.deepEqual(await keysOf(store, 's'), ['s/1', 's/2']);
  assert.deepEqual(await keysOf(store, 'none'), []);
  assert.deepEqual(
    proxy.requests.map(({ method }) => method),
    ['GET', 'GET'],
  );
});

test('a bucket without a prefix is a store too, and shows foreign keys as they are', async () => {
  const own = 'bucket-of-its-own';
  await createBucket(gateway, own);
  const store = storeAt(`s3://${own}`);
  assert.deepEqual(await keysOf(store, ''), []);
  assert.equal(await store.put('a/k', Buffer.from('x'), { ifAbsent: true }), 'created');
  const foreign = ['My Documents/x y', 'a+b%20c', 'café', 'q?&<>"\u0001', 'a//b'];
  for (const Key of foreign) {
    await client.send(new PutObjectCommand({ Bucket: own, Key, Body: 'z' }));
  }
  assert.deepEqual(await keysOf(store, ''), [...foreign, 'a/k'].sort());
});

test('keys of every character that a key may have come back as they were', async () => {
  for (const random of seeded(3)) {
    const store = storeAt(place());
    const alphabet = 'ABab01._%~@+=-';
    const keys = Array.from({ length: 8 }, () => `p/${random.text(12, alphabet)}x`);
    for (const key of keys) {
      assert.equal(await store.put(key, Buffer.from(key), { ifAbsent: true }), 'created');
      assert.equal((await store.get(key, { sizeMaxBytes }))?.toString(), key);
    }
    assert.deepEqual(await keysOf(store, 'p'), keys.sort(), `seed ${random.seed}`);
  }
});

test('large objects pass whole', async () => {
  const store = storeAt(place());
  const bytes = Buffer.alloc(20 * 1024 * 1024, 'not all the same');
  await store.put('large', bytes, { ifAbsent: true });
  assertSameBytes(await store.get('large', { sizeMaxBytes: bytes.length }), bytes);
});

test('a copy is made by the service; what is not there is not copied', async context => {
  const where = place();
  const proxy = await FaultProxy.start(context, gateway.endpoint);
  const store = new S3Store(parseS3Location(urlOf(where, proxy.endpoint)));
  const bytes = Buffer.alloc(200_000, 'copied');
  await store.put('from/a%+b', bytes, { ifAbsent: false });
  assert.equal(await store.copy('from/a%+b', 'to/k'), true);
  assert.ok(proxy.requests.at(-1)!.body.length === 0, 'no bytes of it came here');
  assertSameBytes(await store.get('to/k', { sizeMaxBytes }), bytes);
  assert.equal(await store.copy('none', 'to/n'), false);
  assert.deepEqual(await keysOf(store, 'to'), ['to/k']);
});

test('of several puts if absent at once by several clients, one creates', async () => {
  const where = place();
  const stores = [storeAt(where), storeAt(where), storeAt(where)];
  for (let round = 0; round < 10; round++) {
    const outcomes = await Promise.all(
      stores.flatMap((store, i) =>
        [0, 1, 2, 3].map(j =>
          store.put(`race/${round}`, Buffer.alloc(30_000, 4 * i + j), { ifAbsent: true }),
        ),
      ),
    );
    assert.equal(outcomes.filter(outcome => outcome === 'created').length, 1);
    const winner = await stores[0]!.get(`race/${round}`, { sizeMaxBytes });
    assertSameBytes(winner, Buffer.alloc(30_000, outcomes.indexOf('created')));
  }
});

test('no more requests at once than allowed, on as many connections, which are kept', async context => {
  const proxy = await FaultProxy.start(context, gateway.endpoint);
  const location = parseS3Location(urlOf(place(), proxy.endpoint));
  const store = new S3Store(location, { requestsMax: 3 });
  await Promise.all(
    Array.from({ length: 60 }, (_, i) => store.put(`${i}`, Buffer.alloc(100), { ifAbsent: false })),
  );
  assert.equal(proxy.inFlightMax, 3);
  assert.ok(proxy.connections <= 3, `${proxy.connections} connections`);
});

test('a process with an S3 store ends when its work is done', async () => {
  const script = `
    const { openStore } = await import('./src/store/open-store.ts');
    const store = await openStore(process.argv[1]);
    console.log(await store.put('k', Buffer.from('x'), { ifAbsent: true }));`;
  const url = urlOf(place(), gateway.endpoint);
  const node = startCommand(process.execPath, ['--input-type=module', '-e', script, url], {
    cwd: `${import.meta.dirname}/../..`,
    timeoutMs: 20_000,
  });
  const { stdout, stderr, exitCode } = await node.result;
  assert.deepEqual([exitCode, stdout, stderr], [0, 'created\n', '']);
});

test('what is wrong with the bucket or the credentials is said, without any of them', async context => {
  const get = (url: string) =>
    openStore(url).then(store => store.get('k', { sizeMaxBytes, signal: context.signal }));
  const missing = urlOf('s3://no-such-bucket', gateway.endpoint);
  await assert.rejects(
    get(missing),
    isFault('UNAVAILABLE', /: there is no bucket no-such-bucket$/),
  );
  const listed = openStore(missing).then(store => keysOf(store, ''));
  await assert.rejects(listed, isFault('UNAVAILABLE', /there is no bucket/));

  const url = urlOf(place(), gateway.endpoint);
  const wrong = (change: Record<string, string>, state: RegExp) =>
    withEnvironment(change, async () => {
      await assert.rejects(get(url), (error: Error & { hint?: string }) => {
        assert.ok(error.hint !== undefined);
        assert.doesNotMatch(`${error.message} ${error.hint}`, /wr0ng|Signature=|IMGSTORETEST/);
        return isFault('IO', state)(error);
      });
    });
  await wrong({ AWS_SECRET_ACCESS_KEY: 'wr0ng' }, /access denied, SignatureDoesNotMatch \(403\)$/);
  await wrong({ AWS_ACCESS_KEY_ID: 'wr0ng' }, /access denied, InvalidAccessKeyId \(403\)$/);
  await wrong(
    { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', HOME: '/nonexistent' },
    /no usable credentials were found$/,
  );
});

test('a port where nothing listens may answer later; a wrong host or protocol does not', async context => {
  const closed = await FaultProxy.start(context, gateway.endpoint);
  const { endpoint } = closed;
  await closed.close();
  const refused = new S3Store(parseS3Location(urlOf(place(), endpoint)));
  const state = /: no connection \(ECONNREFUSED\)$/;
  await assert.rejects(refused.stat('k'), (error: unknown) => {
    assert.ok(error instanceof RetryableFault);
    return isFault('UNAVAILABLE', state)(error);
  });
  const unknown = new S3Store(parseS3Location(urlOf(place(), 'http://no.such.host.invalid')));
  await assert.rejects(unknown.stat('k'), isFault('UNAVAILABLE', /: the host is not known$/));
  const plain = gateway.endpoint.replace('http:', 'https:');
  const insecure = new S3Store(parseS3Location(urlOf(place(), plain)));
  await assert.rejects(insecure.stat('k'), (error: unknown) => {
    assert.ok(!(error instanceof RetryableFault));
    return isFault('UNAVAILABLE', /: no secure connection \([A-Z_]+\)$/)(error);
  });
});

/** Runs with other variables of the environment, which the AWS SDK reads when it is first used. */
async function withEnvironment(
  change: Record<string, string>,
  work: () => Promise<void>,
): Promise<void> {
  const before = { ...process.env };
  Object.assign(process.env, change);
  try {
    await work();
  } finally {
    for (const name of Object.keys(change)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
}

const service: S3Service = {
  endpoint: gateway.endpoint,
  environment: gateway.environment,
  newUrl: (endpoint = gateway.endpoint) => urlOf(place(), endpoint),
  client,
};
testFaults(service);
testRoad(service);
