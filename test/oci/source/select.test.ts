import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { openSource } from '../../../src/oci/source/open.ts';
import { formatPlatform, machinePlatform } from '../../../src/oci/source/platform.ts';
import {
  addToIndex,
  blobPath,
  type Descriptor,
  mediaTypes,
  writeDocument,
  writeImageBlobs,
} from '../../support/oci-layout.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault } from './streams.ts';

function manifestFor(dir: string, text: string): Descriptor {
  const [os, architecture, variant] = text.split('/') as [string, string, string | undefined];
  const platform = { os, architecture, ...(variant === undefined ? {} : { variant }) };
  return writeImageBlobs(dir, { layers: [], platform }).manifest;
}

function indexOf(dir: string, manifests: readonly unknown[]): Descriptor {
  return writeDocument(dir, mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests,
  });
}

const own = formatPlatform(machinePlatform());
const foreign = own === 'linux/s390x' ? 'linux/ppc64le' : 'linux/s390x';

async function chosen(dir: string, platform?: string): Promise<string> {
  return formatPlatform((await openSource(`oci:${dir}`, { platform })).platform);
}

test('the platform asked for is chosen, best match first, wherever it stands', async t => {
  const dir = temporaryFolder(t);
  const all = ['linux/arm/v6', 'linux/386', 'windows/amd64', 'linux/arm/v7', own, foreign];
  addToIndex(
    dir,
    indexOf(
      dir,
      all.map(text => manifestFor(dir, text)),
    ),
  );
  assert.equal(await chosen(dir), own);
  assert.equal(await chosen(dir, own), own);
  assert.equal(await chosen(dir, foreign), foreign);
  assert.equal(await chosen(dir, 'linux/arm/v8'), 'linux/arm/v7');
  assert.equal(await chosen(dir, 'linux/i386'), 'linux/386');
  assert.equal(await chosen(dir, 'windows/x86_64'), 'windows/amd64');
  const listed = 'linux/arm/v6, linux/386, windows/amd64, linux/arm/v7';
  await assertFault(chosen(dir, 'linux/mips64'), 'NOT_FOUND', 'linux/mips64', listed, dir);
});

test('several platforms may stand in index.json itself', async t => {
  const dir = temporaryFolder(t);
  addToIndex(dir, manifestFor(dir, foreign), manifestFor(dir, own));
  assert.equal(await chosen(dir), own);
  assert.equal(await chosen(dir, foreign), foreign);
});

test('a descriptor without a platform is asked for its config', async t => {
  const dir = temporaryFolder(t);
  const bare = ({ mediaType, digest, size }: Descriptor) => ({ mediaType, digest, size });
  addToIndex(dir, indexOf(dir, [bare(manifestFor(dir, foreign)), bare(manifestFor(dir, own))]));
  assert.equal(await chosen(dir), own);
  assert.equal(await chosen(dir, foreign), foreign);
});

test('a single image is taken unless another platform was asked for', async t => {
  const dir = temporaryFolder(t);
  addToIndex(dir, manifestFor(dir, foreign));
  assert.equal(await chosen(dir), foreign);
  assert.equal(await chosen(dir, foreign), foreign);
  await assertFault(chosen(dir, own), 'NOT_FOUND', own, `It has ${foreign}`);
});

test('attestations are no images', async t => {
  const dir = temporaryFolder(t);
  const annotated = {
    ...manifestFor(dir, 'linux/amd64/v4'),
    annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
  };
  const image = manifestFor(dir, foreign);
  addToIndex(dir, indexOf(dir, [manifestFor(dir, 'unknown/unknown'), annotated, image]));
  assert.equal(await chosen(dir), foreign);
});

test('indexes nest, to a bound', async t => {
  for (const [depth, code] of [
    [8, undefined],
    [9, 'LIMIT'],
  ] as const) {
    const dir = temporaryFolder(t);
    let entry: Descriptor = manifestFor(dir, foreign);
    for (let i = 0; i < depth; i++) entry = indexOf(dir, [entry]);
    addToIndex(dir, entry);
    if (code === undefined) assert.equal(await chosen(dir), foreign);
    else await assertFault(chosen(dir), code, dir, 'nested');
  }
});

test('indexes that name each other many times are walked once each', async t => {
  const dir = temporaryFolder(t);
  let entry: Descriptor = manifestFor(dir, foreign);
  // Every level names the one below 500 times: 500^7 ways lead to the manifest.
  for (let i = 0; i < 7; i++)
    entry = indexOf(
      dir,
      Array.from({ length: 500 }, () => entry),
    );
  addToIndex(dir, entry);
  assert.equal(await chosen(dir), foreign);
});

test('an index of an empty index holds no image', async t => {
  const dir = temporaryFolder(t);
  const inner = indexOf(dir, []);
  addToIndex(dir, indexOf(dir, [inner]));
  await assertFault(chosen(dir), 'UNSUPPORTED', 'no container image', dir);
});

test('the number of manifests is bounded, in one index and over several', async t => {
  const dir = temporaryFolder(t);
  const manifest = manifestFor(dir, foreign);
  const numbered = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({
      ...manifest,
      digest: `sha256:${(from + i).toString(16).padStart(64, '0')}`,
    }));
  const wide = temporaryFolder(t);
  addToIndex(wide, indexOf(wide, numbered(0, 1025)));
  await assertFault(chosen(wide), 'LIMIT', '1025', wide);
  const two = [indexOf(dir, numbered(0, 600)), indexOf(dir, numbered(600, 600))];
  addToIndex(dir, indexOf(dir, two));
  await assertFault(chosen(dir), 'LIMIT', '1024', dir);
});

test('manifests that docker save left out are not offered', async t => {
  const dir = temporaryFolder(t);
  const [absent, present] = [manifestFor(dir, own), manifestFor(dir, foreign)];
  addToIndex(dir, indexOf(dir, [absent, present]));
  rmSync(blobPath(dir, absent.digest));
  await assertFault(chosen(dir), 'NOT_FOUND', own, `It has ${foreign};`);
  assert.equal(await chosen(dir, foreign), foreign);
});
