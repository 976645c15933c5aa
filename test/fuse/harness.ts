/** A dispatcher without a kernel: requests as bytes in, answers as bytes out. */

import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { Dispatcher, type Negotiated } from '../../src/fuse/dispatcher.ts';
import { requestHeader } from '../../src/fuse/format.ts';
import { NodeTable } from '../../src/fuse/nodes.ts';

export interface Answer {
  unique: number;
  error: number;
  body: Buffer;
}

export interface Harness {
  nodes: NodeTable;
  /** All answers so far. */
  answers: Answer[];
  inits: (Negotiated | ErrorCode)[];
  logged: string[];
  clock: { nowMs: number };
  /** The answer, if it came at once. */
  ask(request: Buffer): Answer | undefined;
}

export function harness(): Harness {
  const nodes = new NodeTable();
  const answers: Answer[] = [];
  const inits: (Negotiated | ErrorCode)[] = [];
  const logged: string[] = [];
  const clock = { nowMs: 0 };
  const dispatcher = new Dispatcher({
    nodes,
    reply: (head, error, body) => {
      const unique = head.uniqueLow + head.uniqueHigh * 2 ** 32;
      answers.push({ unique, error, body: Buffer.concat(body) });
    },
    onInit: result => inits.push(result instanceof ImgstoreError ? result.code : result),
    log: (_, message) => logged.push(message),
    nowMs: () => clock.nowMs,
  });
  // As the channel's: longer than the request, and full of what was there before.
  const buffer = Buffer.alloc(8192, 0xa5);
  return {
    nodes,
    answers,
    inits,
    logged,
    clock,
    ask(request) {
      const before = answers.length;
      request.copy(buffer);
      dispatcher.handle(buffer, request.length);
      return answers.length > before ? answers.at(-1) : undefined;
    },
  };
}

/** A request with a right header; `lengthBytes` to lie about its length. */
export function request(options: {
  opcode: number;
  nodeId?: number;
  unique?: number;
  body?: Buffer;
  lengthBytes?: number;
}): Buffer {
  const { opcode, nodeId = 1, unique = 2, body = Buffer.alloc(0) } = options;
  const header = Buffer.alloc(requestHeader.sizeBytes);
  header.writeUInt32LE(options.lengthBytes ?? header.length + body.length, requestHeader.length);
  header.writeUInt32LE(opcode, requestHeader.opcode);
  header.writeBigUInt64LE(BigInt(unique), requestHeader.unique);
  header.writeBigUInt64LE(BigInt(nodeId), requestHeader.nodeId);
  return Buffer.concat([header, body]);
}

/** The body of READ and READDIR. */
export function readBody(offset: number | bigint, sizeBytes: number): Buffer {
  const body = Buffer.alloc(40);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(sizeBytes, 16);
  return body;
}
