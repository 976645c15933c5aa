/** Random images: the flattened tree is what umoci unpacks. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flattenImage } from '../../../src/oci/layer/flatten.ts';
import { ContentKeeper, MemoryImage } from '../../support/memory-image.ts';
import { seeded } from '../../support/random.ts';
import { randomImage } from '../../support/random-layers.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { compareTreeToFolder, umociUnpack } from '../../support/umoci.ts';

/** `IMGSTORE_TEST_IMAGES=2000` for a long run, `IMGSTORE_TEST_SEED=77` to start elsewhere. */
const images = Number(process.env['IMGSTORE_TEST_IMAGES'] ?? 20);
const firstSeed = Number(process.env['IMGSTORE_TEST_SEED'] ?? 1);

for (const random of seeded(images, firstSeed)) {
  test(`umoci and the flattener agree on image ${random.seed}`, async context => {
    const { layers, broken } = await randomImage(random, 4, 30);
    const directoryTimesSince = BigInt(Math.floor(Date.now() / 1000)) * 1_000_000_000n;
    const theirs = await umociUnpack(temporaryFolder(context), layers);
    assert.ok(
      'rootfs' in theirs,
      `umoci refuses what the flattener takes: ${JSON.stringify(theirs)}`,
    );
    const contents = new ContentKeeper();
    const image = new MemoryImage(layers, { bufferBytes: random.between(1, 5000) });
    const tree = await flattenImage(image, contents);
    assert.deepEqual(
      compareTreeToFolder(tree, contents, theirs.rootfs, { directoryTimesSince }),
      [],
    );
    if (broken === undefined) return;
    const refused = await umociUnpack(temporaryFolder(context), broken);
    assert.ok('error' in refused, 'umoci takes what the flattener refuses');
  });
}
