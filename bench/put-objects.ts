/**
 * `node bench/put-objects.ts STORE SIZES [CLIENTS]` puts new objects of the sizes that the JSON file
 * SIZES lists, so many at once as a push does, and prints how long it took: what a service can take, with
 * nothing of a push before it. They lie where a first push's chunks would, and are garbage.
 */

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseChunkId, sha256Hex } from '../src/base/digest.ts';
import { chunkObjectKey, chunksPrefix, firstRootId } from '../src/store/format.ts';
import { openStore } from '../src/store/open-store.ts';

const [url = '', sizesFile = '', clients = '16'] = process.argv.slice(2);
const sizes = JSON.parse(readFileSync(sizesFile, 'utf8')) as number[];
const noise = randomBytes(Math.max(...sizes) + sizes.length);
const store = await openStore(url);

async function put(number: number, sizeBytes: number): Promise<void> {
  const id = parseChunkId(sha256Hex(Buffer.from(`object ${number}`)));
  const key = `${chunksPrefix(firstRootId)}/${chunkObjectKey(id)}`;
  await store.put(key, noise.subarray(number, number + sizeBytes), { ifAbsent: true });
}

// The first also finds out what the service can do.
await put(sizes.length, 0);
const began = performance.now();
let next = 0;
await Promise.all(
  Array.from({ length: Number(clients) }, async () => {
    for (let at = next++; at < sizes.length; at = next++) await put(at, sizes[at]!);
  }),
);
process.stdout.write(JSON.stringify({ wallMs: performance.now() - began }));
