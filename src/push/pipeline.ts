/** The name of the rules by which this version makes disks and chunks. */

import {
  chunkSizeMaxBytes,
  chunkSizeMinBytes,
  chunkSizeTargetBytes,
  inlineFileSizeMaxBytes,
  KiB,
  packedFileSizeMaxBytes,
} from '../base/limits.ts';

const cutSizes = [chunkSizeMinBytes, chunkSizeTargetBytes, chunkSizeMaxBytes].map(b => b / KiB);

/**
 * Changes whenever the same image would give another disk or other chunks: a number goes up with
 * the rules of flattening, of the disk's layout, of cutting, or of chunk keys.
 * test/push/pipeline.test.ts pins an image's disk and keys to the name.
 */
export const pipelineId = [
  'flatten-1',
  'erofs-1',
  `inline-${inlineFileSizeMaxBytes}`,
  `pack-${packedFileSizeMaxBytes / KiB}`,
  `cut-1:${cutSizes.join('/')}`,
  'seal-1',
].join(' ');
