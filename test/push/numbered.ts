/** Images and disks that are told apart by a number and share most of what they hold. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { manyBytes, TestImage } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import type { LayerEntry } from '../support/tar-builder.ts';

export function numberedImage(number: number): TestImage {
  const common = new Random(1);
  const own = new Random(1000 + number);
  const base: LayerEntry[] = [
    { path: 'usr/lib/common', content: manyBytes(common, 1_200_000) },
    ...Array.from({ length: 20 }, (_, i) => {
      return { path: `etc/common-${i}`, content: manyBytes(common, 20_000) };
    }),
  ];
  const top: LayerEntry[] = [
    { path: 'app/main', content: manyBytes(own, 400_000) },
    { path: 'etc/common-5', content: manyBytes(own, 3000) },
  ];
  return new TestImage([base, top]);
}

export function numberedDisk(folder: string, number: number): string {
  const path = join(folder, `disk-${number}`);
  const common = manyBytes(new Random(1), 900_000);
  const own = manyBytes(new Random(1000 + number), 500_000);
  writeFileSync(path, Buffer.concat([common, Buffer.alloc(300_000), own]));
  return path;
}
