/**
 * Reads that wait for chunks as OpenTelemetry spans, sent by OTLP over HTTP: a span a read, and below
 * it one a chunk with the tier that had it. Loaded only where an endpoint is named; the standard
 * variables (OTEL_EXPORTER_OTLP_…, OTEL_TRACES_SAMPLER…, OTEL_BSP_…, OTEL_SERVICE_NAME,
 * OTEL_RESOURCE_ATTRIBUTES) are read by OpenTelemetry's own packages.
 *
 * Invariants: no state of the collector delays or fails a read: spans wait in a queue of bounded
 * length and are dropped beyond. Spans carry ids, sizes and codes: no key, no name of a file, no
 * message.
 */

import { hostname } from 'node:os';
import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base';
import { ImgstoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ChunkTrace, ReadTrace, TraceRead } from '../image/read-trace.ts';

export interface TracingOptions {
  env: NodeJS.ProcessEnv;
  log: Log;
}

/** A collector is near; what it has not taken by then is not waited for. */
const exportMaxMs = 2000;
/** When the daemon ends. */
const flushMaxMs = 2000;

export class Tracing {
  readonly #provider: BasicTracerProvider;

  constructor({ env, log }: TracingOptions) {
    const own = { 'service.name': 'imgstore', 'host.name': hostname(), 'process.pid': process.pid };
    const fromEnv = detectResources({ detectors: [envDetector] });
    const resource = defaultResource().merge(resourceFromAttributes(own)).merge(fromEnv);
    const isTimed =
      env['OTEL_EXPORTER_OTLP_TIMEOUT'] ?? env['OTEL_EXPORTER_OTLP_TRACES_TIMEOUT'] ?? '';
    const options = isTimed === '' ? { timeoutMillis: exportMaxMs } : {};
    const exporter = told(new OTLPTraceExporter(options), log);
    const spanProcessors = [new BatchSpanProcessor(exporter)];
    this.#provider = new BasicTracerProvider({ resource, spanProcessors });
  }

  /** What to tell of the reads of one mount. */
  readsOf(mountId: string, imageName: string): TraceRead {
    const tracer = this.#provider.getTracer('imgstore');
    return (offsetBytes, lengthBytes) => {
      const attributes = {
        'imgstore.mount.id': mountId,
        'imgstore.image.name': imageName,
        'imgstore.read.offset_bytes': offsetBytes,
        'imgstore.read.length_bytes': lengthBytes,
      };
      const clock = spanClock();
      const options = { attributes, startTime: clock() };
      const span = tracer.startSpan('imgstore.read', options, ROOT_CONTEXT);
      return span.isRecording() ? new ReadSpan(span, tracer, clock) : undefined;
    };
  }

  /** Sends what there is, in a bounded time. Never rejects. */
  async close(): Promise<void> {
    const flushed = this.#provider.shutdown().catch(() => {});
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, flushMaxMs);
    });
    await Promise.race([flushed, late]);
    clearTimeout(timer);
  }
}

/** Milliseconds since 1970. */
type Clock = () => number;

/** Of a read and its chunks: by the SDK's own clocks a span may lie a millisecond outside its parent. */
function spanClock(): Clock {
  const originMs = Date.now() - performance.now();
  return () => originMs + performance.now();
}

class ReadSpan implements ReadTrace {
  readonly #span: Span;
  readonly #tracer: Tracer;
  readonly #clock: Clock;
  readonly #context: Context;

  constructor(span: Span, tracer: Tracer, clock: Clock) {
    this.#span = span;
    this.#tracer = tracer;
    this.#clock = clock;
    this.#context = trace.setSpan(ROOT_CONTEXT, span);
  }

  chunk(sealedSizeBytes: number): ChunkTrace {
    const attributes = { 'imgstore.chunk.sealed_bytes': sealedSizeBytes };
    const options = { attributes, startTime: this.#clock() };
    const span = this.#tracer.startSpan('imgstore.chunk', options, this.#context);
    return {
      end: ({ tier, joined, error }) => {
        if (tier !== undefined) span.setAttribute('imgstore.tier', tier);
        span.setAttribute('imgstore.chunk.joined', joined);
        endSpan(span, error, this.#clock());
      },
    };
  }

  end(error?: unknown): void {
    endSpan(this.#span, error, this.#clock());
  }
}

function endSpan(span: Span, error: unknown, endTime: number): void {
  const code = error instanceof ImgstoreError ? error.code : 'BUG';
  span.setAttribute('imgstore.outcome', error === undefined ? 'ok' : code);
  if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: code });
  span.end(endTime);
}

/** One line in the log when spans are lost, and one when they arrive again. */
function told(exporter: SpanExporter, log: Log): SpanExporter {
  let failing = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, result => {
        const failed = result.code !== 0;
        if (failed && !failing) {
          const reason = result.error?.message || 'it does not answer';
          log('warn', `Cannot send spans to the collector: ${reason}. They are lost meanwhile.`);
        } else if (!failed && failing) log('info', 'The collector takes spans again');
        failing = failed;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => exporter.forceFlush?.(),
  };
}
