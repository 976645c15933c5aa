/**
 * The whole road with real images of several layers, built from Debian packages: pushed, mounted by
 * the command line, compared entry by entry with what umoci unpacks, and started.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildImage, type CorpusImage } from '../../bench/corpus/build.ts';
import type { ImageName } from '../../bench/corpus/definitions.ts';
import { createTestHome, runChecked, type TestHome } from '../support/processes.ts';
import { compareTrees } from '../support/tree-compare.ts';

/** umoci's own rootfs of the image, in the home's folder. */
async function unpacked(image: CorpusImage, home: TestHome): Promise<string> {
  const bundle = home.path(`bundle-${image.name}`);
  await runChecked('umoci', ['unpack', '--image', `${image.layoutDir}:${image.tag}`, bundle], {
    timeoutMs: 300_000,
  });
  return join(bundle, 'rootfs');
}

/** Arguments for the entry point, and what it says to them. */
const programs = {
  python: { command: ['-c', 'print(6 * 7)'], output: /^42$/m },
  nginx: { command: ['-v'], output: /^nginx version: nginx\//m },
} satisfies Partial<Record<ImageName, { command: string[]; output: RegExp }>>;

for (const [name, { command, output }] of Object.entries(programs)) {
  test(`${name}: the mounted tree is what umoci unpacks`, { timeout: 600_000 }, async context => {
    const image = await buildImage(name as ImageName);
    const home = createTestHome(context);
    await home.runChecked(['push', image.source, name], { timeoutMs: 300_000 });
    const run = await home.runChecked(['run', '--stats', name, '--', ...command]);
    assert.match(run.stdout + run.stderr, output);
    const share = Number(/\(([0-9.]+) %\)/.exec(run.stderr)?.[1]);
    assert.ok(share > 0 && share < 60, `a start fetches a part of the image: ${run.stderr}`);

    const dir = home.path('mnt');
    mkdirSync(dir);
    await home.runChecked(['mount', name, dir]);
    const differences = await compareTrees(await unpacked(image, home), dir);
    assert.deepEqual(differences, []);
    const disk = home.path('disk');
    await home.runChecked(['export', name, `disk:${disk}`], { timeoutMs: 120_000 });
    await runChecked('fsck.erofs', ['--extract', disk], { timeoutMs: 120_000 });
    await home.runChecked(['umount', dir]);
    assert.deepEqual(readdirSync(dir), []);
  });
}
