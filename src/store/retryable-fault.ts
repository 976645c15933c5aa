/**
 * A fault that the same request may not meet again: the service is busy, restarts, or the network
 * lost something. A store throws it where a later attempt makes sense; retry.ts acts on it.
 */

import { ImgstoreError } from '../base/errors.ts';

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
