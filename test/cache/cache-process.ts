/**
 * A process that fills a worker's cache until it is killed, for tests with several of them:
 * FOLDER SEED. Prints a line when it has kept a few.
 */

import { diskCacheSizeMinBytes } from '../../src/base/limits.ts';
import { silentLog } from '../../src/base/log.ts';
import { DiskCache } from '../../src/cache/disk-cache.ts';
import { Random } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

const [folder, seed] = process.argv.slice(2);
const cache = new DiskCache({
  folder: folder!,
  sizeMaxBytes: diskCacheSizeMinBytes,
  log: silentLog,
});
// The same chunks in every process: they write over, read and evict each other's.
const chunks = sealedChunks(new Random(7), 300, 100_000);
const random = new Random(Number(seed));
await cache.ready;
for (let n = 0; ; n++) {
  const { id, sealed } = random.pick(chunks);
  const hit = await cache.get(id, { sizeBytes: sealed.length });
  if (hit === undefined) await cache.put(id, sealed);
  else if (!hit.sealed.equals(sealed)) process.stdout.write('WRONG BYTES\n');
  if (n % 50 === 49) process.stdout.write('fifty\n');
}
