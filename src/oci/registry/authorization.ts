/**
 * The Authorization header of a registry: Basic, or Bearer with a token from the service that the
 * registry names (distribution-spec's "Token Authentication"). Credentials are looked up when the
 * registry asks for the first time.
 *
 * The token is asked for what a pull needs, whatever scope the registry writes into its challenge.
 */

import { ImgstoreError } from '../../base/errors.ts';
import { KiB } from '../../base/limits.ts';
import { isObject } from '../source/json.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Credential } from './credentials.ts';
import { unavailable } from './faults.ts';

/** Asks the token service; the client's own rules about plain HTTP and redirects apply. */
export interface TokenRequester {
  requestToken(request: TokenRequest): Promise<Buffer>;
}

export interface TokenRequest {
  url: URL;
  headers: Readonly<Record<string, string>>;
  form?: string;
}

export interface AuthorizationOptions {
  /** What the user named, for messages. */
  reference: string;
  repository: string;
  findCredential: () => Promise<Credential | undefined>;
  requester: TokenRequester;
  /** Milliseconds of a clock that does not go back. */
  now?: () => number;
}

type Asked = { kind: 'basic' } | { kind: 'bearer'; realm: URL; service: string | undefined };

/** What the specification says of an answer that names no time. */
const expiryDefaultSeconds = 60;
/** A token is renewed this long before its end, for what is on its way then. */
const expiryMarginMs = 5_000;
export const tokenAnswerMaxBytes = 256 * KiB;

export class Authorization {
  readonly #options: AuthorizationOptions;
  readonly #now: () => number;
  #credential: Promise<Credential | undefined> | undefined;
  #asked: Asked | undefined;
  #header: { text: string; expiresAtMs: number } | undefined;
  #renewal: Promise<void> | undefined;

  constructor(options: AuthorizationOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Undefined as long as the registry has not asked. */
  async header(): Promise<string | undefined> {
    const isOver = this.#header !== undefined && this.#now() >= this.#header.expiresAtMs;
    if (isOver && this.#asked !== undefined) await this.#renew(this.#asked);
    return this.#header?.text;
  }

  /**
   * After an answer with status 401 to a request with the header `sent`: the next one has another,
   * or this throws. Renewals at the same time are one.
   */
  async challenged(wwwAuthenticate: string | undefined, sent: string | undefined): Promise<void> {
    if (this.#renewal === undefined && this.#header?.text !== sent) return;
    await this.#renew(this.#choose(parseChallenges(wwwAuthenticate ?? '')));
  }

  #renew(asked: Asked): Promise<void> {
    this.#renewal ??= this.#obtain(asked).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  #choose(challenges: readonly Challenge[]): Asked {
    const bearer = challenges.find(each => each.scheme === 'bearer')?.parameters;
    const realm = bearer === undefined ? null : URL.parse(bearer.get('realm') ?? '');
    if (realm !== null) return { kind: 'bearer', realm, service: bearer?.get('service') };
    if (challenges.some(each => each.scheme === 'basic')) return { kind: 'basic' };
    throw unavailable(
      `Cannot open ${this.#options.reference}`,
      'the registry asks for a login of a kind that is not known',
      'It must ask for Basic or, with a realm, for Bearer.',
    );
  }

  async #obtain(asked: Asked): Promise<void> {
    this.#credential ??= this.#options.findCredential();
    const credential = await this.#credential;
    this.#asked = asked;
    if (credential?.kind === 'registry-token') this.#header = forever(`Bearer ${credential.token}`);
    else if (asked.kind === 'bearer') this.#header = await this.#token(asked, credential);
    else if (credential?.kind === 'password') this.#header = forever(basic(credential));
    else throw this.#noCredential();
  }

  async #token(
    { realm, service }: Asked & { kind: 'bearer' },
    credential: Credential | undefined,
  ): Promise<{ text: string; expiresAtMs: number }> {
    const { requester, repository } = this.#options;
    const scope = `repository:${repository}:pull`;
    const query = { ...(service !== undefined && { service }), scope };
    const askedAtMs = this.#now();
    let answer: Buffer;
    if (credential?.kind === 'identity-token') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        client_id: 'imgstore',
        refresh_token: credential.token,
        ...query,
      });
      answer = await requester.requestToken({ url: realm, headers: {}, form: form.toString() });
    } else {
      const url = new URL(realm);
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
      const headers: Record<string, string> = {};
      if (credential?.kind === 'password') headers['Authorization'] = basic(credential);
      answer = await requester.requestToken({ url, headers });
    }
    const { token, lifeMs } = this.#parseToken(answer, realm);
    return { text: `Bearer ${token}`, expiresAtMs: askedAtMs + lifeMs - expiryMarginMs };
  }

  #parseToken(bytes: Buffer, realm: URL): { token: string; lifeMs: number } {
    let document: unknown;
    try {
      document = JSON.parse(bytes.toString());
    } catch {
      document = undefined; // the parser's own message quotes the text
    }
    const fields = isObject(document) ? document : {};
    const token = fields['token'] || fields['access_token'];
    const seconds = fields['expires_in'];
    // Characters that a header can carry.
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
      const what = `Cannot open ${this.#options.reference}`;
      const hint = 'Its answer must be JSON with a token or an access_token.';
      throw unavailable(what, `the token service ${realm.host} gives no token`, hint);
    }
    const isTime = typeof seconds === 'number' && seconds > 0;
    return { token, lifeMs: (isTime ? seconds : expiryDefaultSeconds) * 1000 };
  }

  #noCredential(): ImgstoreError {
    const state = 'the registry asks for a user and a password';
    return new ImgstoreError('IO', `Cannot open ${this.#options.reference}: ${state}`, {
      hint: 'Log in with docker login, podman login or skopeo login.',
    });
  }
}

function forever(text: string): { text: string; expiresAtMs: number } {
  return { text, expiresAtMs: Number.POSITIVE_INFINITY };
}

function basic({ username, password }: Credential & { kind: 'password' }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
