/** What goes wrong on the way to a registry, and what is worth another attempt. */

import { ImgstoreError } from '../../base/errors.ts';
import { RetryableFault } from '../../base/retry.ts';

export class TransientFault extends RetryableFault {
  constructor(
    message: string,
    options: { hint?: string; cause?: unknown; retryAfterMs?: number | undefined } = {},
  ) {
    super(message, { hint: 'Try again later.', ...options });
  }
}

/** `what` is "Cannot <do> <what>", without a colon. */
export function unavailable(what: string, state: string, hint: string, cause?: unknown) {
  return new ImgstoreError('UNAVAILABLE', `${what}: ${state}`, { hint, cause });
}

const transientStates: Readonly<Record<string, string>> = {
  ECONNRESET: 'the connection broke',
  EPIPE: 'the connection broke',
  ECONNABORTED: 'the connection broke',
  ETIMEDOUT: 'the connection timed out',
  EAI_AGAIN: 'the name server does not answer',
  ENETUNREACH: 'the network is not reachable',
  EHOSTUNREACH: 'the host is not reachable',
};

/** An error of Node's sockets, TLS or HTTP parser; anything else as it is. `host` is for messages. */
export function networkFault(what: string, host: string, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof ImgstoreError) return error;
  const code = codeOf(error);
  if (code === undefined) return error;
  const transient = transientStates[code];
  if (transient !== undefined) {
    const hint = 'Check the network and run it again.';
    return new TransientFault(`${what}: ${transient} (${host})`, { hint, cause: error });
  }
  if (code === 'ECONNREFUSED') {
    const hint = 'Check the host and the port, and that the registry runs.';
    return unavailable(what, `${host} refuses the connection`, hint, error);
  }
  if (code === 'ENOTFOUND') {
    return unavailable(what, `there is no host ${host}`, 'Check the host in the reference.', error);
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) {
    const hint = 'If it speaks plain HTTP, use --plain-http.';
    return unavailable(what, `${host} does not speak TLS as it should`, hint, error);
  }
  if (/CERT|SIGNATURE|ERR_TLS/.test(code)) {
    const hint = 'If its authority is your own, name its certificate in NODE_EXTRA_CA_CERTS.';
    return unavailable(what, `the certificate of ${host} is not trusted (${code})`, hint, error);
  }
  const state = code.startsWith('HPE_') ? `does not speak HTTP (${code})` : `fails (${code})`;
  return unavailable(what, `${host} ${state}`, 'Check the host in the reference.', error);
}

/** Of a connection that is tried over several addresses, that of the first. */
function codeOf(error: Error): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code === 'string') return code;
  const first: unknown = error instanceof AggregateError ? error.errors[0] : undefined;
  return first instanceof Error ? codeOf(first) : undefined;
}
