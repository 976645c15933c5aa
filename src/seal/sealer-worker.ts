/** A thread of a SealerPool: seals what it is sent, in order. Buffers move, they are not copied. */

import { parentPort } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import type { ChunkId } from '../base/digest.ts';
import { release } from '../base/external-memory.ts';
import { sealChunk } from './seal.ts';

export interface SealRequest {
  plain: Uint8Array;
  key: Uint8Array;
}

export interface SealAnswer {
  id: ChunkId;
  sealed: Uint8Array<ArrayBuffer>;
}

assert(parentPort !== null, 'this module is a thread');
const port = parentPort;

port.on('message', ({ plain, key }: SealRequest) => {
  const { id, sealed } = sealChunk(Buffer.from(plain.buffer, plain.byteOffset, plain.length), key);
  release(plain);
  const answer: SealAnswer = { id, sealed: sealed as Buffer<ArrayBuffer> };
  port.postMessage(answer, [answer.sealed.buffer]);
});
