/**
 * What Linux 6.18 asked, recorded once from a mount of two files (process ids zeroed), and what it
 * was answered and accepted. The bytes are pinned: they are docs/format/fuse.md.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TiB } from '../../src/base/limits.ts';
import { harness } from './harness.ts';

interface Exchange {
  name: string;
  request: string;
  error: number;
  reply: string;
}

const file = join(import.meta.dirname, '../../fixtures/golden/fuse-linux-6.18.json');
const exchanges = JSON.parse(readFileSync(file, 'utf8')) as Exchange[];

test('the requests of Linux 6.18 are answered with the bytes that it accepted', () => {
  const text = Buffer.from('the bytes of a disk\n');
  const { nodes, ask, inits } = harness();
  nodes.add('m5', 5, {
    sizeBytes: text.length,
    read: (from, n) => [text.subarray(from, from + n)],
  });
  nodes.add('m7', 7, { sizeBytes: 16 * TiB, read: () => [] });
  assert.ok(exchanges.length > 10);
  for (const { name, request, error, reply } of exchanges) {
    const answer = ask(Buffer.from(request, 'hex'));
    assert.equal(answer?.error, error, name);
    assert.equal(answer?.body.toString('hex'), reply, name);
  }
  assert.deepEqual(inits, [{ protocolMinor: 36, resend: true }]);
});
