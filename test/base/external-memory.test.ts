/** The flag is V8's own: that it still does what we want is seen from the collections. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { runChecked } from '../support/processes.ts';

const helper = join(import.meta.dirname, '..', '..', 'src', 'base', 'external-memory.ts');

async function collections(setUp: string): Promise<number> {
  const script = `
    import { setImmediate as nextTurn } from 'node:timers/promises';
    ${setUp}
    const kept = [];
    for (let i = 0; i < 4000; i++) {
      kept[i % 256] = Buffer.allocUnsafeSlow(256 * 1024);
      if (i % 16 === 0) await nextTurn();
    }`;
  const args = ['--trace-gc', '--input-type=module', '--eval', script];
  const { stdout } = await runChecked(process.execPath, args);
  return stdout.match(/Mark-Compact/g)?.length ?? 0;
}

test('buffers that come and go cause far fewer full collections', async () => {
  const usual = await collections('');
  const ours = await collections(
    `(await import(${JSON.stringify(helper)})).collectBuffersWithTheHeap();`,
  );
  assert.ok(ours * 2 <= usual, `${ours} instead of ${usual}`);
});
