/**
 * The distribution API as far as a pull needs it: one answer for one path, with redirects followed,
 * the registry's challenge met and every other status an ImgstoreError.
 *
 * Invariants: the registry's Authorization goes to the registry's scheme, host and port only. TLS is
 * never left for plain HTTP. Plain HTTP goes to loopback hosts, or to any if the user asked for it.
 * Queries, which carry signatures, enter no message.
 */

import { ImgstoreError } from '../../base/errors.ts';
import { KiB } from '../../base/limits.ts';
import { parseRetryAfter } from '../../base/retry.ts';
import { isObject } from '../source/json.ts';
import {
  Authorization,
  type AuthorizationOptions,
  type TokenRequest,
  tokenAnswerMaxBytes,
} from './authorization.ts';
import { withDeadline } from './deadline.ts';
import { isLoopback } from './endpoint.ts';
import { TransientFault, unavailable } from './faults.ts';
import type { HttpAnswer, HttpClient, HttpRequest } from './http.ts';

export interface RegistryClientOptions
  extends Pick<AuthorizationOptions, 'reference' | 'repository' | 'findCredential'> {
  http: HttpClient;
  /** `https://HOST/v2/` */
  base: URL;
  plainHttp: boolean;
  /** Ends requests for tokens, which several others may wait for. */
  signal: AbortSignal;
}

export interface RegistryRequest {
  /** "Cannot <do> <what>", for messages. */
  what: string;
  /** Below the repository: `manifests/latest`. */
  path: string;
  headers?: Readonly<Record<string, string>>;
  /** Statuses that are answers. */
  accepted: readonly number[];
  signal: AbortSignal;
}

const redirectsMax = 5;
const redirectStatuses = [301, 302, 303, 307, 308];
const transientStatuses = [408, 429, 500, 502, 503, 504];
/** `{"errors":[{"code":"DENIED",…}]}` */
const errorBodyMaxBytes = 16 * KiB;

export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #authorization: Authorization;

  constructor(options: RegistryClientOptions) {
    const { reference, repository, findCredential } = options;
    this.#options = options;
    const requester = { requestToken: (request: TokenRequest) => this.#requestToken(request) };
    this.#authorization = new Authorization({ reference, repository, findCredential, requester });
  }

  /** One attempt. NOT_FOUND for 404, IO if access is refused, UNAVAILABLE for the rest. */
  async get({ path, accepted, ...request }: RegistryRequest): Promise<HttpAnswer> {
    const { base, repository } = this.#options;
    const url = new URL(`${repository}/${path}`, base);
    const headers = { ...request.headers };
    let sent = await this.#authorization.header();
    let answer = await this.#follow({ ...request, url, headers }, sent);
    if (answer.status === 401 && answer.url.origin === base.origin) {
      await answer.discard();
      await this.#authorization.challenged(answer.headers['www-authenticate'], sent);
      sent = await this.#authorization.header();
      answer = await this.#follow({ ...request, url, headers }, sent);
    }
    if (accepted.includes(answer.status)) return answer;
    throw await statusFault(answer, request.what);
  }

  /** To the first answer that is no redirect; `authorization` for the first one's origin. */
  async #follow(request: HttpRequest, authorization: string | undefined): Promise<HttpAnswer> {
    const { origin } = request.url;
    let { url } = request;
    for (let followed = 0; ; followed++) {
      this.#checkPlain(url, request.what);
      const headers =
        authorization !== undefined && url.origin === origin
          ? { ...request.headers, Authorization: authorization }
          : request.headers;
      const answer = await this.#options.http.send({ ...request, url, headers });
      const { location } = answer.headers;
      if (!redirectStatuses.includes(answer.status) || location === undefined) return answer;
      await answer.discard();
      const next = URL.parse(location, url.href);
      const fault = redirectFault(url, next, followed);
      if (next === null || fault !== undefined) {
        throw misconfigured(request.what, `${url.host} ${fault}`);
      }
      url = next;
    }
  }

  #checkPlain(url: URL, what: string): void {
    if (url.protocol === 'https:' || this.#options.plainHttp || isLoopback(url.hostname)) return;
    const state = `${url.host} is to be asked over plain HTTP`;
    throw unavailable(what, state, 'If that is what you want, use --plain-http.');
  }

  #requestToken(request: TokenRequest): Promise<Buffer> {
    const { reference, base, signal } = this.#options;
    const what = `Cannot open ${reference}`;
    const fault = redirectFault(base, request.url, 0);
    if (fault !== undefined)
      throw misconfigured(what, `the token service of ${base.host} ${fault}`);
    return withDeadline({ what, host: request.url.host, signal }, within =>
      this.#askTokenService(request, { what, signal: within }),
    );
  }

  async #askTokenService(
    { url, headers, form }: TokenRequest,
    { what, signal }: { what: string; signal: AbortSignal },
  ): Promise<Buffer> {
    const { Authorization: authorization, ...others } = headers;
    const request = { what, url, headers: { ...others, Accept: 'application/json' }, signal };
    let answer: HttpAnswer;
    if (form === undefined) answer = await this.#follow(request, authorization);
    else {
      // The form holds the secret itself, so it is not sent on to where a redirect leads.
      this.#checkPlain(url, what);
      const type = { 'Content-Type': 'application/x-www-form-urlencoded' };
      const posted = { ...request, headers: { ...request.headers, ...type }, form };
      answer = await this.#options.http.send(posted);
    }
    if (answer.status !== 200) throw await statusFault(answer, what);
    const bytes = await answer.bytes(tokenAnswerMaxBytes);
    if (bytes === undefined)
      throw misconfigured(what, `the token service ${url.host} says too much`);
    return bytes;
  }
}

/** Why this must not be followed, as the rest of a sentence about who leads there. */
function redirectFault(from: URL, to: URL | null, followed: number): string | undefined {
  if (to === null) return 'redirects to what is no URL';
  if (followed === redirectsMax) return `redirects more than ${redirectsMax} times`;
  if (to.protocol !== 'https:' && to.protocol !== 'http:') return `leads to ${to.protocol}`;
  if (from.protocol === 'https:' && to.protocol === 'http:') return 'leads from TLS to plain HTTP';
  if (to.username !== '' || to.password !== '') return 'leads to a URL with a user in it';
  return undefined;
}

function misconfigured(what: string, state: string): ImgstoreError {
  return unavailable(what, state, 'The registry is not set up as it should be.');
}

async function statusFault(answer: HttpAnswer, what: string): Promise<ImgstoreError> {
  const { status, url, headers } = answer;
  const code = errorCodeOf(await answer.bytes(errorBodyMaxBytes).catch(() => undefined));
  const shown = code === undefined ? `${status}` : `${status} ${code}`;
  if (status === 404) {
    return new ImgstoreError('NOT_FOUND', `${what}: ${url.host} does not have it (${shown})`, {
      hint: 'Check the repository and the tag.',
    });
  }
  if (status === 401 || status === 403) {
    return new ImgstoreError('IO', `${what}: ${url.host} refuses access (${shown})`, {
      hint: 'Check the name; for a private image log in, or again, with docker login or skopeo login.',
    });
  }
  if (transientStatuses.includes(status)) {
    const retryAfterMs = parseRetryAfter(headers['retry-after'], Date.now());
    const waits =
      retryAfterMs === undefined ? '' : `; it asks to wait ${Math.ceil(retryAfterMs / 1000)} s`;
    return new TransientFault(`${what}: ${url.host} answers ${shown}${waits}`, { retryAfterMs });
  }
  return unavailable(what, `${url.host} answers ${shown}`, 'Check the host and the repository.');
}

/** Codes are capitals by the specification; the message beside it may hold anything. */
function errorCodeOf(body: Buffer | undefined): string | undefined {
  try {
    const document: unknown = JSON.parse(body?.toString() ?? '');
    const errors = isObject(document) ? document['errors'] : undefined;
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
    const code = isObject(first) ? first['code'] : undefined;
    return typeof code === 'string' && /^[A-Z_]{1,40}$/.test(code) ? code : undefined;
  } catch {
    return undefined;
  }
}
