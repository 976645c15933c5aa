/**
 * What all retries share, whatever is asked again: the fault that is worth another attempt, what the
 * service asks to wait, and how waits grow. How often, and within which budget, is the caller's.
 */

import { setTimeout as setTimer } from 'node:timers/promises';
import { ImgstoreError } from './errors.ts';

/**
 * A fault that the same request may not meet again: the service is busy, restarts, or the network
 * lost something.
 */
export class RetryableFault extends ImgstoreError {
  /** What the service asked to wait (Retry-After), if it did. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: { hint?: string; cause?: unknown; retryAfterMs?: number | undefined },
  ) {
    super('UNAVAILABLE', message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Retry-After (RFC 9110, 10.2.3): seconds, or a date; undefined if it is neither. */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim() ?? '';
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000;
  const dateMs = /GMT$/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}

export interface BackOff {
  /** The first retry comes after 0 to this, each later one may take twice as long. */
  waitFirstMs: number;
  waitMaxMs: number;
}

/**
 * Exponential back-off with full jitter before a retry, the first of which is number 1. What the
 * service asks for is spread too, or all who were told the same come back together.
 */
export function backOffMs(
  { waitFirstMs, waitMaxMs }: BackOff,
  { retry, askedMs, random }: { retry: number; askedMs: number; random: number },
): number {
  return askedMs + random * Math.min(waitFirstMs * 2 ** (retry - 1), waitMaxMs);
}

/** Rejects with the signal's own reason when it is aborted. */
export async function sleepUnlessAborted(
  waitMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await setTimer(waitMs, undefined, signal && { signal });
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}
