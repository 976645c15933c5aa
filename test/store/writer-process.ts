/**
 * A process that writes into a store, for tests with several of them: FOLDER MODE SEED.
 * `race` puts the keys race/0 to race/99 if absent and prints, a line each, whether it created them.
 * `endless` puts objects under the first 16 digits of their SHA-256 until it is killed.
 */

import { sha256Hex } from '../../src/base/digest.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { Random } from '../support/random.ts';

const [folder, mode, seed] = process.argv.slice(2);
const store = new DirectoryStore(folder!);
const random = new Random(Number(seed));

async function race(): Promise<void> {
  const bytes = Buffer.alloc(10_000, Number(seed));
  const indexes = Array.from({ length: 100 }, (_, i) => i);
  const put = (i: number) => store.put(`race/${i % 10}/${i}`, bytes, { ifAbsent: true });
  for (const outcome of await Promise.all(indexes.map(put))) process.stdout.write(`${outcome}\n`);
}

async function endless(): Promise<void> {
  for (;;) {
    const bytes = Buffer.alloc(random.between(1, 300_000), random.bytes(64));
    const hash = sha256Hex(bytes).slice(0, 16);
    await store.put(`whole/${hash.slice(0, 2)}/${hash}`, bytes, { ifAbsent: random.chance(0.5) });
    process.stdout.write(`${hash}\n`);
  }
}

if (mode === 'race') await race();
else await Promise.all([endless(), endless(), endless(), endless()]);
