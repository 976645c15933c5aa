/**
 * What starts of images ask of one worker's cache, in ways that starts come. Each start reads its
 * image's read set once. The worker's memory is in front, which has what was read last.
 */

import { Random } from '../../test/support/random.ts';
import { Population } from './population.ts';
import { behindMemory, type Trace, TraceBuilder } from './trace.ts';

export interface TraceOptions {
  seed: number;
  images: number;
  starts: number;
}

/** Of Zipf's law; how popular functions are is not published. 0.9 is common in caches' traces. */
export const zipfExponent = 0.9;
/** 256 MiB of decoded chunks beside 10 GB of sealed ones, about. */
const memoryShare = 0.01;
const burstEveryStarts = 1000;
const burstImages = 300;
/** A rank of popularity goes to another image after so many starts. */
const driftStarts = 8000;
const deployEveryStarts = 4;

export function startTraces(options: TraceOptions): Trace[] {
  const traces = [
    startsAlone(options),
    startsWithBursts(options, 1),
    startsThatDrift(options),
    startsWithDeploys(options),
  ].map(trace => behindMemory(trace, memoryShare * trace.footprintBytes));
  return [...traces, startsWithBursts(options, 3)];
}

/** Starts by popularity, which stays as it is. */
export function startsAlone({ seed, images, starts }: TraceOptions): Trace {
  const population = new Population({ seed, images, zipf: zipfExponent });
  const next = uniforms(seed);
  const trace = new TraceBuilder();
  for (let i = 0; i < starts; i++) trace.add(population.readSet(population.imageOf(next())));
  return trace.build('starts');
}

/**
 * As cron starts them: after every 1000 starts 300 images of other owners, which have no chunk in
 * common with the popular ones. Each image is started `times` in a row, and never again.
 */
export function startsWithBursts({ seed, images, starts }: TraceOptions, times: number): Trace {
  const population = new Population({ seed, images, zipf: zipfExponent });
  const others = new Population({ seed: seed + 1, images, zipf: zipfExponent });
  const next = uniforms(seed);
  const trace = new TraceBuilder();
  let scanned = 0;
  for (let i = 1; i <= starts; i++) {
    trace.add(population.readSet(population.imageOf(next())));
    if (i % burstEveryStarts !== 0) continue;
    trace.mark();
    for (const end = scanned + burstImages; scanned < end; scanned++) {
      for (let time = 0; time < times; time++) trace.add(others.readSet(scanned));
    }
  }
  return trace.build(times === 1 ? 'bursts' : `bursts × ${times}, no memory`);
}

/** Each rank of popularity passes from image to image, each at its own time. */
export function startsThatDrift({ seed, images, starts }: TraceOptions): Trace {
  const population = new Population({ seed, images, zipf: zipfExponent });
  const next = uniforms(seed);
  const trace = new TraceBuilder();
  for (let i = 0; i < starts; i++) {
    const rank = population.rankOf(next());
    const holders = Math.floor((i + ((rank * 997) % driftStarts)) / driftStarts);
    trace.add(population.readSet(population.imageOfRank((rank + holders * 7919) % images)));
  }
  return trace.build('drift');
}

/** A deploy every fourth start: an image, by popularity, is its next version from then on. */
export function startsWithDeploys({ seed, images, starts }: TraceOptions): Trace {
  const population = new Population({ seed, images, zipf: zipfExponent });
  const next = uniforms(seed);
  const versions = new Uint32Array(images);
  const trace = new TraceBuilder();
  for (let i = 0; i < starts; i++) {
    if (i % deployEveryStarts === 0) versions[population.imageOf(next())]!++;
    const image = population.imageOf(next());
    trace.add(population.readSet(image, versions[image]));
  }
  return trace.build('deploys');
}

function uniforms(seed: number): () => number {
  const random = new Random(seed);
  return () => random.u32() / 2 ** 32;
}
