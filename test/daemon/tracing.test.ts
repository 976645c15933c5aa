import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { waitUntil } from '../support/poll.ts';
import { createTestHome, type TestHome } from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { noise, pushSmallImage } from '../support/small-images.ts';

interface WireSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  status: { code?: number };
}

interface WireTraces {
  resourceSpans: {
    resource: { attributes: WireSpan['attributes'] };
    scopeSpans: { spans: WireSpan[] }[];
  }[];
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

class Collector {
  readonly bodies: string[] = [];
  readonly server: Server;
  answer: Answer = (_, response) => response.end('{}');

  constructor() {
    this.server = createServer(async (request, response) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      assert.equal(request.url, '/v1/traces');
      assert.equal(request.headers['content-type'], 'application/json');
      this.bodies.push(Buffer.concat(parts).toString());
      this.answer(request, response);
    });
  }

  static async start(context: TestContext): Promise<Collector> {
    const collector = new Collector();
    collector.server.listen(0, '127.0.0.1');
    await once(collector.server, 'listening');
    context.after(() => {
      collector.server.close();
      collector.server.closeAllConnections();
    });
    return collector;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  get resources() {
    return this.bodies.flatMap(body => (JSON.parse(body) as WireTraces).resourceSpans);
  }

  get spans(): WireSpan[] {
    return this.resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  }
}

/** Numbers of 64 bits are texts in OTLP's JSON, or numbers. */
function attributesOf({ attributes }: Pick<WireSpan, 'attributes'>): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}

async function mountAndRead(home: TestHome, env: NodeJS.ProcessEnv): Promise<number> {
  await home.runChecked(['mount', 'small', 'mnt'], { env });
  const startedMs = performance.now();
  assertSameBytes(readFileSync(home.path('mnt', 'srv', 'noise')), noise);
  return performance.now() - startedMs;
}

async function newHome(context: TestContext): Promise<TestHome> {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));
  return home;
}

test('a read that waits is a span, its chunks are below it with the tier that had them', async context => {
  const collector = await Collector.start(context);
  const home = await newHome(context);
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=test',
  };
  await mountAndRead(home, env);
  await home.runChecked(['umount', 'mnt']);
  await home.runChecked(['daemon', 'stop']);
  const { spans } = collector;
  const reads = new Map(
    spans.filter(({ name }) => name === 'imgstore.read').map(span => [span.spanId, span]),
  );
  const chunks = spans.filter(({ name }) => name === 'imgstore.chunk');
  assert.equal(reads.size + chunks.length, spans.length);
  assert.ok(reads.size >= 2 && chunks.length >= reads.size);
  for (const read of reads.values()) {
    assert.ok(!read.parentSpanId);
    const attributes = attributesOf(read);
    assert.equal(attributes['imgstore.image.name'], 'small:latest');
    assert.match(String(attributes['imgstore.mount.id']), /^m\d+$/);
    assert.ok(Number(attributes['imgstore.read.length_bytes']) > 0);
    assert.ok(Number(attributes['imgstore.read.offset_bytes']) >= 0);
    assert.equal(attributes['imgstore.outcome'], 'ok');
  }
  for (const chunk of chunks) {
    const read = reads.get(chunk.parentSpanId!);
    assert.ok(read !== undefined, 'a chunk is below a read');
    assert.equal(chunk.traceId, read.traceId);
    assert.ok(BigInt(chunk.startTimeUnixNano) >= BigInt(read.startTimeUnixNano));
    assert.ok(BigInt(chunk.endTimeUnixNano) <= BigInt(read.endTimeUnixNano));
    const attributes = attributesOf(chunk);
    assert.equal(attributes['imgstore.tier'], 'store');
    assert.ok(Number(attributes['imgstore.chunk.sealed_bytes']) > 0);
    assert.equal(attributes['imgstore.outcome'], 'ok');
  }
  const resource = attributesOf(collector.resources[0]!.resource);
  assert.equal(resource['service.name'], 'imgstore');
  assert.equal(resource['deployment.environment'], 'test');
  const said = collector.bodies.join();
  for (const secret of ['noise', home.dir, readFileSync(`${home.home}/keys/owner.key`, 'utf8')]) {
    assert.ok(!said.includes(secret.trim()), secret);
  }

  collector.bodies.length = 0;
  await mountAndRead(home, env);
  await home.runChecked(['daemon', 'stop', '--force']);
  const tiers = collector.spans.map(span => attributesOf(span)['imgstore.tier']);
  assert.ok(tiers.includes('l1'), 'from the disk of the worker the second time');
  assert.ok(!tiers.includes('store'));
});

test('a read that fails is a span with its error, and no message', async context => {
  const collector = await Collector.start(context);
  const home = await newHome(context);
  const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.endpoint}/v1/traces` };
  await home.runChecked(['mount', 'small', 'mnt'], { env });
  rmSync(`${home.home}/store`, { recursive: true });
  assert.throws(() => readFileSync(home.path('mnt', 'srv', 'noise')), { code: 'EIO' });
  await home.runChecked(['daemon', 'stop', '--force']);
  const failed = collector.spans.filter(({ status }) => status.code === 2);
  assert.ok(failed.some(({ name }) => name === 'imgstore.read'));
  assert.ok(failed.some(({ name }) => name === 'imgstore.chunk'));
  for (const span of failed) {
    assert.match(String(attributesOf(span)['imgstore.outcome']), /^[A-Z_]+$/);
  }
  assert.ok(!collector.bodies.join().includes(home.dir));
});

test('the sampler decides, and what is off is off', async context => {
  const collector = await Collector.start(context);
  const home = await newHome(context);
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint };
  for (const off of [{ OTEL_TRACES_SAMPLER: 'always_off' }, { OTEL_SDK_DISABLED: 'true' }]) {
    await mountAndRead(home, { ...endpoint, ...off });
    await home.runChecked(['daemon', 'stop', '--force']);
    assert.equal(collector.bodies.length, 0, JSON.stringify(off));
  }
});

test('a collector that is dead, or silent, costs a read nothing and the end two seconds', async context => {
  const dead = await Collector.start(context);
  dead.server.close();
  const silent = await Collector.start(context);
  silent.answer = () => {};
  const home = await newHome(context);
  for (const collector of [dead, silent]) {
    const endpoint = collector === dead ? 'http://127.0.0.1:9' : collector.endpoint;
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '50' };
    rmSync(`${home.home}/cache`, { recursive: true, force: true });
    const readMs = await mountAndRead(home, env);
    assert.ok(readMs < 4000, `${readMs} ms`);
    const log = () => readFileSync(`${home.home}/run/daemon.log`, 'utf8');
    await waitUntil('it is told', () => log().includes('Cannot send spans'), { timeoutMs: 20_000 });
    const startedMs = performance.now();
    await home.runChecked(['daemon', 'stop', '--force']);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs < 8000, `${tookMs} ms to end`);
    rmSync(`${home.home}/run/daemon.log`);
  }
});

test('without the packages, which are optional, the log says so once and reads go on', async context => {
  const home = await newHome(context);
  const hide = `import { registerHooks } from 'node:module';
    registerHooks({
      resolve(specifier, context, next) {
        const hidden = specifier.startsWith('@opentelemetry/') ? '@absent/package' : specifier;
        return next(hidden, context);
      },
    });`;
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hide)}`,
  };
  await mountAndRead(home, env);
  const warnings =
    readFileSync(`${home.home}/run/daemon.log`, 'utf8').match(/.*trace reads.*/g) ?? [];
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /OpenTelemetry's packages are not installed\. npm ci brings them\.$/);
});
