import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MiB } from '../../src/base/limits.ts';
import { setReadAhead } from '../../src/fuse/read-ahead.ts';

test('a read-ahead that cannot be set is a warning, not a failure', async () => {
  const logged: string[] = [];
  await setReadAhead('999:999', MiB, (level, message) => logged.push(`${level} ${message}`));
  assert.equal(logged.length, 1);
  assert.match(logged[0]!, /^warn Cannot set the read-ahead of 999:999, reads are slower: ENOENT/);
});
