/** The store in S3 through a proxy that fails by a seed, with waits that take no time. */

import { crc32 } from 'node:zlib';
import { Retrier } from '../../src/store/retry.ts';
import { retrying } from '../../src/store/retrying.ts';
import { parseS3Location } from '../../src/store/s3-location.ts';
import { S3Store } from '../../src/store/s3-store.ts';
import type { Fault, FaultPlan, ProxiedRequest } from '../support/fault-proxy.ts';
import { Random } from '../support/random.ts';
import type { VirtualClock } from '../support/virtual-clock.ts';
import type { AnyStore } from './world.ts';

/** Real time: what a request waits for an answer that does not come. */
const answerTimeoutMs = 250;
const uuidPattern = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

export function storeThrough(url: string, clock: VirtualClock, random: Random): AnyStore {
  const { now, sleep } = clock;
  const retrier = new Retrier({ now, sleep, random: () => random.u32() / 2 ** 32 });
  return retrying(new S3Store(parseS3Location(url), { answerTimeoutMs }), retrier);
}

const busy =
  '<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>';
const xml = { 'content-type': 'application/xml' };

/** Which of them can happen to a request is `faultFor`'s. */
export const faults: Readonly<Record<string, Fault>> = {
  '500': { do: 'answer', status: 500 },
  '503': { do: 'answer', status: 503, headers: xml, body: busy },
  '503 with Retry-After': { do: 'answer', status: 503, headers: { ...xml, 'retry-after': '3' } },
  '429': { do: 'answer', status: 429, headers: { 'retry-after': '1' } },
  'reset before': { do: 'reset', when: 'before' },
  'lost answer': { do: 'reset', when: 'after' },
  'reset in the middle': { do: 'cut', afterBytes: 40, says: 'more' },
  stall: { do: 'stall' },
  'stall in the middle': { do: 'stall', afterBytes: 10 },
  delay: { do: 'delay', waitMs: 10 },
  'not HTTP': { do: 'garbage' },
  'short and sure of it': { do: 'cut', afterBytes: 30, says: 'all' },
  'damaged answer': { do: 'flip', of: 'answer' },
  'done twice': { do: 'twice' },
  'done again later': { do: 'twice', afterMs: 15 },
  'an old list': { do: 'replay' },
  'more than was said': { do: 'overrun', more: 'and more' },
  'an answer to nothing': {
    do: 'overrun',
    more: 'HTTP/1.1 200 OK\r\ncontent-length: 8\r\netag: "-"\r\n\r\nnot true',
  },
};

/**
 * Faults by the seed, the request and how often it came, so that a seed means the same whatever is
 * under way at once. `rate` is how likely any is, and `kinds` which.
 */
export function seededPlan(seed: number, rate: number, kinds: readonly string[]): FaultPlan {
  const times = new Map<string, number>();
  return request => {
    const what = `${request.method} ${request.path.replace(uuidPattern, '-')}`;
    const time = (times.get(what) ?? 0) + 1;
    times.set(what, time);
    const random = new Random(crc32(`${seed} ${what} ${time}`));
    const fault = random.chance(rate) ? faults[random.pick(kinds)]! : undefined;
    return fault !== undefined && canHappen(fault, request) ? fault : undefined;
  };
}

function canHappen(fault: Fault, { method, path }: ProxiedRequest): boolean {
  const isList = path.includes('list-type=2');
  if (fault.do === 'replay') return isList;
  // Lists are believed: nothing in them can be checked, unlike in what they lead to.
  const damages = fault.do === 'flip' || (fault.do === 'cut' && fault.says === 'all');
  return !damages || (method === 'GET' && !isList);
}
