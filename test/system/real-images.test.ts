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

const programs = {
  python: { command: ['python3', '-c', 'print(6 * 7)'], output: '42\n' },
  nginx: { command: ['/bin/sh', '-c', 'echo $((6 * 7))'], output: '42\n' },
} satisfies Partial<Record<ImageName, { command: string[]; output: string }>>;

for (const [name, { command, output }] of Object.entries(programs)) {
  test(`${name}: the mounted tree is what umoci unpacks`, { timeout: 600_000 }, async context => {
    const image = await buildImage(name as ImageName);
    const home = createTestHome(context);
    await home.runChecked(['push', image.source, name], { timeoutMs: 300_000 });
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

    const run = await home.runChecked(['run', '--stats', name, '--', ...command]);
    assert.equal(run.stdout, output);
    const share = Number(/\(([0-9.]+) %\)/.exec(run.stderr)?.[1]);
    assert.ok(share < 100, `a start fetches a part of the image: ${run.stderr}`);
  });
}
