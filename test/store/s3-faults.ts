/** Tests of the store in S3 through a proxy that misbehaves; run by s3-store.test.ts. */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { PutObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { RetryableFault } from '../../src/base/retry.ts';
import { openStore } from '../../src/store/open-store.ts';
import { parseS3Location } from '../../src/store/s3-location.ts';
import { S3Store, type S3StoreOptions } from '../../src/store/s3-store.ts';
import { isFault, keysOf } from '../contract/object-store.ts';
import { type Fault, FaultProxy, type ProxiedRequest } from '../support/fault-proxy.ts';
import { seeded } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';

export interface S3Service {
  endpoint: string;
  environment: Readonly<Record<string, string>>;
  client: S3Client;
  /** Of a place that nothing is in yet, through an endpoint. */
  newUrl(endpoint?: string): string;
}

const sizeMaxBytes = 1024 * 1024;
const bytes = Buffer.alloc(100_000, 'the bytes of an object');

const slowDown: Extract<Fault, { do: 'answer' }> = {
  do: 'answer',
  status: 503,
  headers: { 'content-type': 'application/xml' },
  body: '<Error><Code>SlowDown</Code><Message>secret</Message></Error>',
};

export function testFaults(service: S3Service): void {
  const through = async (context: TestContext, options: S3StoreOptions = {}) => {
    const proxy = await FaultProxy.start(context, service.endpoint);
    const url = service.newUrl(proxy.endpoint);
    return { proxy, url, bare: new S3Store(parseS3Location(url), options) };
  };
  const isRetryable = (state: RegExp, retryAfterMs?: number) => (error: unknown) => {
    assert.ok(error instanceof RetryableFault, `a RetryableFault, not ${String(error)}`);
    if (retryAfterMs !== undefined) assert.equal(error.retryAfterMs, retryAfterMs);
    assert.doesNotMatch(error.message, /secret/);
    return isFault('UNAVAILABLE', state)(error);
  };

  test('each fault is one request, and told as what may pass', async context => {
    const { proxy, bare } = await through(context);
    await bare.put('k', bytes, { ifAbsent: false });
    const html = '<html>secret</html>';
    const cases: [Fault, RegExp, number?][] = [
      [slowDown, /: SlowDown \(503\)$/],
      [{ ...slowDown, headers: { 'retry-after': '7' } }, /: SlowDown \(503\)$/, 7000],
      [{ do: 'answer', status: 429, headers: { 'retry-after': '2' } }, /answers 429$/, 2000],
      [{ do: 'answer', status: 500 }, /: the service answers 500$/],
      [{ do: 'answer', status: 502, body: html }, /: the service answers 502$/],
      [{ do: 'answer', status: 504, body: html }, /: the service answers 504$/],
      [{ do: 'reset', when: 'before' }, /: no connection \(ECONNRESET\)$/],
      [{ do: 'reset', when: 'after' }, /: no connection \(ECONNRESET\)$/],
      [{ do: 'garbage' }, /: /],
    ];
    proxy.take();
    for (const [fault, state, retryAfterMs] of cases) {
      proxy.plan = () => fault;
      const what = JSON.stringify(fault);
      const rejected = isRetryable(state, retryAfterMs);
      await assert.rejects(bare.get('k', { sizeMaxBytes }), rejected, what);
      await assert.rejects(bare.put('n', bytes, { ifAbsent: false }), what);
      assert.deepEqual(proxy.take(), ['GET k', 'PUT n'], what);
    }
    proxy.plan = () => undefined;
    assertSameBytes(await bare.get('k', { sizeMaxBytes }), bytes);
  });

  test('answers that are cut, slow or without end are not taken for the object', async context => {
    const { proxy, bare, url } = await through(context);
    await bare.put('k', bytes, { ifAbsent: false });
    proxy.plan = () => ({ do: 'cut', afterBytes: 50_000, says: 'more' });
    await assert.rejects(
      bare.get('k', { sizeMaxBytes }),
      isRetryable(/broke off|ended early|ECONN/),
    );
    // Each byte has its time: 100,000 are given 1.5 s more than the answer's beginning.
    const hasty = new S3Store(parseS3Location(url), { answerTimeoutMs: 500 });
    proxy.plan = () => ({ do: 'stall' });
    await assert.rejects(hasty.stat('k'), isRetryable(/no answer within 0\.5 s$/));
    await assert.rejects(hasty.put('n', bytes, { ifAbsent: false }), isRetryable(/within 2 s$/));
    proxy.plan = () => ({ do: 'stall', afterBytes: 50_000 });
    await assert.rejects(hasty.get('k', { sizeMaxBytes }), isRetryable(/within (2|0\.5) s$/));
    proxy.plan = () => ({ do: 'answer', status: 500, body: 'x'.repeat(17 * 1024 * 1024) });
    await assert.rejects(bare.get('k', { sizeMaxBytes }), isRetryable(/answers 500$/));
    await assert.rejects(keysOf(bare, ''), isFault('LIMIT', /more than 16777216/));
    proxy.plan = () => ({ do: 'answer', status: 200, body: 'x'.repeat(17 * 1024 * 1024) });
    await assert.rejects(bare.get('k', { sizeMaxBytes }), isFault('LIMIT', /more than 1048576/));
    proxy.plan = () => undefined;
    assertSameBytes(await bare.get('k', { sizeMaxBytes }), bytes);
  });

  test('a body that was damaged on its way is refused by the service', async context => {
    const { proxy, bare, url } = await through(context);
    proxy.plan = ({ number }) => (number === 0 ? { do: 'flip', of: 'request' } : undefined);
    const put = bare.put('k', bytes, { ifAbsent: false });
    await assert.rejects(put, isRetryable(/XAmzContentSHA256Mismatch|BadDigest/));
    assert.equal(await bare.get('k', { sizeMaxBytes }), undefined);
    proxy.plan = flipFirst('PUT');
    const store = await openStore(url);
    assert.equal(await store.put('k', bytes, { ifAbsent: false }), 'created');
    assertSameBytes(await bare.get('k', { sizeMaxBytes }), bytes);
  });

  test('lists that are no lists are refused', async context => {
    const { proxy, bare } = await through(context, { pageKeysMax: 2 });
    for (const key of ['a', 'b', 'c']) await bare.put(key, bytes, { ifAbsent: false });
    const entry = (key: string, more = '') =>
      `<Contents><Key>${key}</Key><Size>1</Size>` +
      `<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>${more}`;
    for (const [document, state] of [
      ['<html>secret', /./],
      [entry('elsewhere/k'), /a key that is not below the prefix$/],
      [entry('', '<IsTruncated>true</IsTruncated>'), /./],
      ['<Contents><Key>KEY</Key></Contents>', /./],
      ['<IsTruncated>true</IsTruncated>', /what comes after a page$/],
      [
        '<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>',
        /after a page$/,
      ],
    ] as const) {
      proxy.plan = ({ path }) => {
        const prefix = new URLSearchParams(path.split('?')[1]).get('prefix')!;
        const body = `<ListBucketResult>${document.replace('KEY', `${prefix}k`)}</ListBucketResult>`;
        return { do: 'answer', status: 200, headers: { 'content-type': 'application/xml' }, body };
      };
      await assert.rejects(keysOf(bare, ''), isRetryable(state), document);
    }
  });

  test('a copy is one only if the answer says so to its end', async context => {
    const { proxy, bare } = await through(context);
    await bare.put('k', bytes, { ifAbsent: false });
    for (const [body, state] of [
      ['<Error><Code>InternalError</Code></Error>', /: InternalError \(500\)$/],
      ['<html>secret', /: the answer tells of no copy$/],
      ['', /: the answer tells of no copy$/],
    ] as const) {
      proxy.plan = () => ({ do: 'answer', status: 200, body });
      await assert.rejects(bare.copy('k', 'to'), isRetryable(state), body);
    }
  });

  test('a clock that is wrong is set by the answer that says so', async context => {
    const { proxy, bare } = await through(context);
    const theirs = new Date(Date.now() + 3_600_000);
    const body = '<Error><Code>RequestTimeTooSkewed</Code></Error>';
    const headers = { date: theirs.toUTCString() };
    proxy.plan = () => ({ do: 'answer', status: 403, headers, body });
    const state = isRetryable(/RequestTimeTooSkewed/);
    await assert.rejects(bare.get('k', { sizeMaxBytes }), state);
    await assert.rejects(bare.get('k', { sizeMaxBytes }), state);
    const times = proxy.requests.map(({ headers }) => String(headers['x-amz-date']).slice(0, 11));
    assert.equal(times[1], theirs.toISOString().replaceAll(/[-:]/g, '').slice(0, 11));
    assert.notEqual(times[0], times[1]);
  });

  test('through random faults every request gets its right answer in the end', async context => {
    for (const random of seeded(2, 21)) {
      const { proxy, url } = await through(context);
      const kinds: Fault[] = [
        slowDown,
        { do: 'answer', status: 500 },
        { do: 'answer', status: 429 },
        { do: 'reset', when: 'before' },
        { do: 'reset', when: 'after' },
        { do: 'cut', afterBytes: 7, says: 'more' },
        { do: 'delay', waitMs: 20 },
        { do: 'twice' },
        { do: 'flip', of: 'request' },
      ];
      const store = await openStore(url);
      proxy.plan = ({ method }) => {
        const fault = random.chance(0.15) ? random.pick(kinds) : undefined;
        return fault?.do === 'flip' && method !== 'PUT' ? undefined : fault;
      };
      const objects = Array.from({ length: 40 }, () => random.bytes(random.below(4000)));
      await Promise.all(
        objects.map(async (object, i) => {
          const key = `k/${i}`;
          await store.put(key, object, { ifAbsent: random.chance(0.5) });
          assertSameBytes(await store.get(key, { sizeMaxBytes }), object, `seed ${random.seed}`);
          if (i % 4 === 0) await store.remove(key);
        }),
      );
      const left = objects.flatMap((_, i) => (i % 4 === 0 ? [] : [`k/${i}`]));
      assert.deepEqual(await keysOf(store, 'k'), left.sort(), `seed ${random.seed}`);
    }
  });

  test('a service that is busy is asked again, not sooner than it said', async context => {
    const { proxy, url } = await through(context);
    const store = await openStore(url);
    const times: number[] = [];
    proxy.plan = ({ number }) => {
      times.push(performance.now());
      return number === 0
        ? { do: 'answer', status: 503, headers: { 'retry-after': '1' } }
        : undefined;
    };
    assert.equal(await store.put('k', bytes, { ifAbsent: false }), 'created');
    assert.ok(times[1]! - times[0]! >= 1000);
  });

  test('of a service that answers nothing but 503, requests are few', async context => {
    const { proxy, url } = await through(context);
    const store = await openStore(url);
    proxy.plan = () => slowDown;
    const abort = new AbortController();
    const options = { sizeMaxBytes, signal: abort.signal };
    const gets = Array.from({ length: 100 }, (_, i) => store.get(`${i}`, options));
    const settled = Promise.allSettled(gets);
    const began = performance.now();
    setTimeout(() => abort.abort(new Error('enough')), 3000);
    for (const outcome of await settled) assert.equal(outcome.status, 'rejected');
    const seconds = (performance.now() - began) / 1000;
    const retries = proxy.requests.length - 100;
    // All tokens of the budget, and one a second.
    assert.ok(retries >= 20 && retries <= 33 + seconds, `${retries} retries in ${seconds} s`);
  });

  test('an abort in the middle closes the connection and rejects with its reason', async context => {
    const { proxy, bare } = await through(context);
    await bare.put('k', bytes, { ifAbsent: false });
    const reason = new Error('given up');
    const faults: Fault[] = [{ do: 'stall' }, { do: 'stall', afterBytes: 1000 }];
    for (const fault of faults) {
      proxy.plan = () => fault;
      const abort = new AbortController();
      const { signal } = abort;
      const asked = proxy.requests.length;
      const work = [
        bare.get('k', { sizeMaxBytes, signal }),
        bare.put('n', bytes, { ifAbsent: false, signal }),
        listAll(bare, signal),
      ];
      const settled = Promise.allSettled(work);
      while (proxy.requests.length < asked + work.length) await tick();
      abort.abort(reason);
      for (const outcome of await settled) {
        assert.equal(outcome.status === 'rejected' && outcome.reason, reason);
      }
    }
    proxy.plan = () => undefined;
    assertSameBytes(await bare.get('k', { sizeMaxBytes }), bytes);
  });

  test('a service with conditional writes is asked once', async context => {
    const { proxy, url, bare } = await through(context);
    const keys = ['a', 'b', 'c', 'd'];
    await Promise.all(keys.map(key => bare.put(key, bytes, { ifAbsent: true })));
    const probe = 'PUT if-none-match';
    assert.deepEqual(proxy.take().sort(), [...keys.map(key => `PUT ${key}`), probe, probe].sort());
    const next = new S3Store(parseS3Location(url));
    assert.equal(await next.put('a', bytes, { ifAbsent: true }), 'exists');
    assert.deepEqual(proxy.take(), [probe, 'PUT a'], 'one request where the probe is there');
    assert.equal(await next.hasConditionalWrites(), true);
  });

  /** Carries out a put as a service would that does not look at the condition. */
  const unconditionally = (request: ProxiedRequest): Fault | undefined => {
    if (request.headers['if-none-match'] === undefined) return undefined;
    const [, Bucket, ...key] = request.path.split('?')[0]!.split('/').map(decodeURIComponent);
    const command = new PutObjectCommand({ Bucket, Key: key.join('/'), Body: request.body });
    return {
      do: 'instead',
      answer: () => service.client.send(command).then(() => ({ status: 200 })),
    };
  };
  const refuse = (request: ProxiedRequest): Fault | undefined => {
    if (request.headers['if-none-match'] === undefined) return undefined;
    return { do: 'answer', status: 501, body: '<Error><Code>NotImplemented</Code></Error>' };
  };
  for (const [plan, how] of [
    [unconditionally, 'ignores'],
    [refuse, 'refuses'],
  ] as const) {
    test(`a service that ${how} If-None-Match works, with a look before each write`, async context => {
      const { proxy, bare } = await through(context);
      proxy.plan = plan;
      assert.equal(await bare.put('k', Buffer.from('one'), { ifAbsent: true }), 'created');
      assert.equal(await bare.put('k', Buffer.from('two'), { ifAbsent: true }), 'exists');
      assert.equal((await bare.get('k', { sizeMaxBytes }))?.toString(), 'one');
      assert.equal(await bare.hasConditionalWrites(), false);
      assert.deepEqual(await keysOf(bare, ''), ['k']);
      const asked = proxy.take().filter(request => !request.includes('if-none-match'));
      assert.deepEqual(asked.slice(0, 3), ['HEAD k', 'PUT k', 'HEAD k']);
    });
  }
}

function flipFirst(method: string) {
  let done = false;
  return (request: ProxiedRequest): Fault | undefined => {
    if (done || request.method !== method) return undefined;
    done = true;
    return { do: 'flip', of: 'request' };
  };
}

async function listAll(store: S3Store, signal: AbortSignal): Promise<void> {
  for await (const _ of store.list('', { signal }));
}

function tick(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, 5));
}
