/**
 * `node bench/put-objects.ts STORE SIZES [CLIENTS]` puts new objects of the sizes that the JSON file
 * SIZES lists, so many at once as a push does, and prints how long it took: what a service can take, with
 * nothing of a push before it.
 */

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { openStore } from '../src/store/open-store.ts';

const [url = '', sizesFile = '', clients = '16'] = process.argv.slice(2);
const sizes = JSON.parse(readFileSync(sizesFile, 'utf8')) as number[];
const noise = randomBytes(Math.max(...sizes) + sizes.length);
const store = await openStore(url);
await store.put('first', noise.subarray(0, 1), { ifAbsent: true });

const began = performance.now();
let next = 0;
await Promise.all(
  Array.from({ length: Number(clients) }, async () => {
    for (let at = next++; at < sizes.length; at = next++) {
      await store.put(`objects/${at}`, noise.subarray(at, at + sizes[at]!), { ifAbsent: true });
    }
  }),
);
process.stdout.write(JSON.stringify({ wallMs: performance.now() - began }));
