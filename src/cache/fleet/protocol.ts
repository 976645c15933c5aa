/**
 * The part of memcached's meta protocol (memcached 1.6, doc/protocol.txt, "Meta Commands") that
 * moves shards: `mg`, `ms`, `md`, each with an opaque token that the server returns. A server answers
 * the requests of a connection in their order.
 *
 * Invariant: what a server sends decides neither how much is allocated nor how long a line may get.
 * Anything that the protocol does not foresee is a ProtocolFault; the connection is of no use then.
 */

import { assert } from '../../base/assert.ts';
import { ImgstoreError } from '../../base/errors.ts';

/** The server's own limit. */
export const keyLengthMaxBytes = 250;
/** Of an answer's first line: a code, two numbers, or an error text of some words. */
const lineLengthMaxBytes = 512;

const carriageReturn = 0x0d;
const lineFeed = 0x0a;

export class ProtocolFault extends ImgstoreError {
  constructor(state: string) {
    super('CORRUPT', `Cannot understand memcached: ${state}`, {
      hint: 'Is it memcached 1.6 or newer that listens there?',
    });
  }
}

export function getRequest(key: string, opaque: number): string {
  return `mg ${checked(key)} v O${opaque}\r\n`;
}

export interface ItemOptions {
  sizeBytes: number;
  /** Until it is evicted, unless this says so. The last of them may be cut short. */
  lifetimeSeconds?: number | undefined;
}

/** To be followed by the value and by `valueEnd`. */
export function setRequest(
  key: string,
  { sizeBytes, lifetimeSeconds }: ItemOptions,
  opaque: number,
): string {
  const lifetime = lifetimeSeconds === undefined ? '' : ` T${lifetimeSeconds}`;
  return `ms ${checked(key)} ${sizeBytes}${lifetime} O${opaque}\r\n`;
}

/** Only if the key is free. To be followed by the value and by `valueEnd`. */
export function addRequest(
  key: string,
  { sizeBytes, lifetimeSeconds }: Required<ItemOptions>,
  opaque: number,
): string {
  return `ms ${checked(key)} ${sizeBytes} ME T${lifetimeSeconds} O${opaque}\r\n`;
}

/** From now on it is there for so many seconds, if it is. */
export function touchRequest(key: string, lifetimeSeconds: number, opaque: number): string {
  return `mg ${checked(key)} T${lifetimeSeconds} O${opaque}\r\n`;
}

export const valueEnd = '\r\n';

export function deleteRequest(key: string, opaque: number): string {
  return `md ${checked(key)} O${opaque}\r\n`;
}

function checked(key: string): string {
  assert(/^[\x21-\x7e]+$/.test(key) && key.length <= keyLengthMaxBytes, 'the key is one word');
  return key;
}

export type AnswerLine =
  /** `VA`: a value of so many bytes follows. */
  | { kind: 'value'; sizeBytes: number; opaque: number | undefined }
  /** `HD`: done. */
  | { kind: 'done'; opaque: number | undefined }
  /** `EN`, `NF`: there is no such item. */
  | { kind: 'absent'; opaque: number | undefined }
  /** `NS`: what the request made it depend on does not hold. */
  | { kind: 'not stored'; opaque: number | undefined }
  /** `SERVER_ERROR …`: no memory, or an item that is too large. */
  | { kind: 'refused'; opaque: number | undefined };

export interface AnswerSink {
  /** Where the value goes: exactly its size; undefined to let it pass. Ignored without a value. */
  begin(line: AnswerLine): Buffer | undefined;
  /** The answer is complete, with its value if it has one. */
  end(): void;
}

/** Takes the bytes of one connection as they come. */
export class AnswerParser {
  readonly #sink: AnswerSink;
  /** A line, or the line end after a value, of which a part has come. */
  #line = '';
  #target: Buffer | undefined;
  /** Of the value and its line end; 0 between answers. */
  #valueLeftBytes = 0;
  #filledBytes = 0;

  constructor(sink: AnswerSink) {
    this.#sink = sink;
  }

  /** The bytes may be overwritten afterwards. Throws ProtocolFault. */
  push(bytes: Buffer): void {
    let offset = 0;
    while (offset < bytes.length) {
      offset = this.#valueLeftBytes > 0 ? this.#value(bytes, offset) : this.#first(bytes, offset);
    }
  }

  #first(bytes: Buffer, offset: number): number {
    const end = bytes.indexOf(lineFeed, offset);
    const until = end < 0 ? bytes.length : end + 1;
    if (this.#line.length + until - offset > lineLengthMaxBytes) {
      throw new ProtocolFault('a line is too long');
    }
    this.#line += bytes.toString('latin1', offset, until);
    if (end < 0) return until;
    if (!this.#line.endsWith('\r\n')) throw new ProtocolFault('a line ends without a return');
    const line = parseLine(this.#line.slice(0, -2));
    this.#line = '';
    this.#target = this.#sink.begin(line);
    if (line.kind !== 'value') {
      this.#sink.end();
      return until;
    }
    assert((this.#target?.length ?? line.sizeBytes) === line.sizeBytes, 'a value fills its buffer');
    this.#valueLeftBytes = line.sizeBytes + valueEnd.length;
    this.#filledBytes = 0;
    return until;
  }

  #value(bytes: Buffer, offset: number): number {
    const dataBytes = Math.min(this.#valueLeftBytes - valueEnd.length, bytes.length - offset);
    if (dataBytes > 0) {
      if (this.#target !== undefined) {
        bytes.copy(this.#target, this.#filledBytes, offset, offset + dataBytes);
        this.#filledBytes += dataBytes;
      }
      this.#valueLeftBytes -= dataBytes;
      return offset + dataBytes;
    }
    const expected = this.#valueLeftBytes === valueEnd.length ? carriageReturn : lineFeed;
    if (bytes[offset] !== expected) throw new ProtocolFault('a value does not end where it should');
    if (--this.#valueLeftBytes === 0) {
      this.#target = undefined;
      this.#sink.end();
    }
    return offset + 1;
  }
}

function parseLine(line: string): AnswerLine {
  const [code, ...fields] = line.split(' ');
  switch (code) {
    case 'VA':
      return { kind: 'value', sizeBytes: number(fields.shift()), opaque: opaqueOf(fields) };
    case 'HD':
      return { kind: 'done', opaque: opaqueOf(fields) };
    case 'EN':
    case 'NF':
      return { kind: 'absent', opaque: opaqueOf(fields) };
    case 'NS':
      return { kind: 'not stored', opaque: opaqueOf(fields) };
    case 'SERVER_ERROR':
      return { kind: 'refused', opaque: undefined };
    default:
      throw new ProtocolFault('it answers something else');
  }
}

function number(text: string | undefined): number {
  if (text === undefined || !/^[0-9]{1,10}$/.test(text)) throw new ProtocolFault('a size is none');
  return Number(text);
}

/** Misses carry it since 1.6.10 or so; where it is missing, the order of answers must do. */
function opaqueOf(fields: readonly string[]): number | undefined {
  const field = fields.find(text => text.startsWith('O'));
  return field === undefined ? undefined : number(field.slice(1));
}
