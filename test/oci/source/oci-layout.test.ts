import assert from 'node:assert/strict';
import {
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openSource } from '../../../src/oci/source/open.ts';
import {
  addToIndex,
  blobPath,
  type Descriptor,
  digestOf,
  mediaTypes,
  writeBlob,
  writeDocument,
  writeImageBlobs,
  writeOciLayout,
} from '../../support/oci-layout.ts';
import { runChecked } from '../../support/processes.ts';
import { Random } from '../../support/random.ts';
import { tarOf } from '../../support/tar-builder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault, openFilesBelow, readLayerOf } from './streams.ts';

const random = new Random(11);
const tarA = tarOf([{ path: 'a', content: random.bytes(300_000) }]);
const tarB = tarOf([{ path: 'b', content: 'b' }]);
const oneLayer = { layers: [{ tar: tarB, compression: 'none' as const }] };

/** A layout of one image whose manifest is what `damage` makes of a right one. */
function layoutWithManifest(
  dir: string,
  damage: (manifest: Record<string, unknown>) => unknown,
): Descriptor {
  const { config, layers } = writeImageBlobs(dir, oneLayer);
  const manifest = damage({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config,
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  const written = writeDocument(dir, mediaTypes.manifest, manifest);
  addToIndex(dir, written);
  return written;
}

test('an image comes out as it went in, whatever its layers are compressed with', async t => {
  const dir = temporaryFolder(t);
  const written = writeOciLayout(dir, {
    layers: [
      { tar: tarA, compression: 'gzip' },
      { tar: tarB, compression: 'zstd' },
      { tar: tarA, compression: 'none' },
      { tar: Buffer.alloc(0), compression: 'none' },
    ],
    tag: 'one',
    platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
  });
  const image = await openSource(`oci:${dir}:one`);
  assert.equal(image.reference, `oci:${dir}:one`);
  assert.equal(image.manifestDigest, written.manifest.digest);
  assert.deepEqual(image.platform, { os: 'linux', architecture: 'arm64' });
  assert.equal(digestOf(Buffer.from(image.configText)), written.config.digest);
  assert.deepEqual(
    image.layers,
    written.layers.map(({ digest, size, diffId }) => ({ digest, sizeBytes: size, diffId })),
  );
  const tars = await Promise.all([0, 1, 2, 3, 0].map(index => readLayerOf(image, index)));
  assert.ok(tars[0]!.equals(tarA) && tars[1]!.equals(tarB) && tars[2]!.equals(tarA));
  assert.ok(tars[3]!.length === 0 && tars[4]!.equals(tarA));
  await image.close();
});

test('media types of a layer do not decide how it is unpacked', async t => {
  const dir = temporaryFolder(t);
  const docker = 'application/vnd.docker.image.rootfs.';
  const types = [
    mediaTypes.layer,
    `${mediaTypes.layer}+zstd`,
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    `${docker}diff.tar`,
    `${docker}diff.tar.gzip`,
    `${docker}foreign.diff.tar.gzip`,
  ];
  writeOciLayout(dir, {
    layers: types.map(mediaType => ({ tar: tarA, compression: 'gzip' as const, mediaType })),
  });
  const image = await openSource(`oci:${dir}`);
  assert.equal(image.layers.length, types.length);
  for (const index of types.keys()) assert.ok((await readLayerOf(image, index)).equals(tarA));
});

test('Docker media types of documents are read', async t => {
  const dir = temporaryFolder(t);
  const { config, layers } = writeImageBlobs(dir, oneLayer);
  const types = 'application/vnd.docker.distribution.manifest';
  const manifest = writeDocument(dir, `${types}.v2+json`, {
    schemaVersion: 2,
    mediaType: `${types}.v2+json`,
    config: { ...config, mediaType: 'application/vnd.docker.container.image.v1+json' },
    layers: layers.map(({ digest, size }) => ({
      mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
      digest,
      size,
    })),
  });
  addToIndex(
    dir,
    writeDocument(dir, `${types}.list.v2+json`, { schemaVersion: 2, manifests: [manifest] }),
  );
  const image = await openSource(`oci:${dir}`);
  assert.equal(image.manifestDigest, manifest.digest);
  assert.deepEqual(image.platform, { os: 'linux', architecture: 'amd64' });
});

test('tags choose the image; without one it must be the only one', async t => {
  const dir = temporaryFolder(t);
  const a = writeOciLayout(dir, { layers: [{ tar: tarA, compression: 'gzip' }], tag: 'a' });
  const b = writeOciLayout(dir, { ...oneLayer, tag: 'docker.io/library/b:1' });
  const opened = async (tag: string) => (await openSource(`oci:${dir}${tag}`)).manifestDigest;
  assert.equal(await opened(':a'), a.manifest.digest);
  assert.equal(await opened(':docker.io/library/b:1'), b.manifest.digest);
  await assertFault(opened(''), 'USAGE', dir, 'a, docker.io/library/b:1');
  await assertFault(opened(':'), 'USAGE', dir);
  await assertFault(opened(':c'), 'NOT_FOUND', `oci:${dir}:c`, 'a, docker.io/library/b:1');
});

test('two tags of one image need no choice; one tag of two images is refused', async t => {
  const dir = temporaryFolder(t);
  const { manifest } = writeOciLayout(join(dir, 'x'), { ...oneLayer, tag: 'a' });
  addToIndex(join(dir, 'x'), {
    ...manifest,
    annotations: { 'org.opencontainers.image.ref.name': 'b' },
  });
  assert.equal((await openSource(`oci:${dir}/x`)).manifestDigest, manifest.digest);
  writeOciLayout(join(dir, 'y'), { ...oneLayer, tag: 'a' });
  writeOciLayout(join(dir, 'y'), { layers: [], tag: 'a' });
  await assertFault(openSource(`oci:${dir}/y:a`), 'USAGE', `oci:${dir}/y:a`);
});

test('a directory may have colons in its name', async t => {
  const dir = temporaryFolder(t);
  for (const name of ['plain', 'with:colon', 'tag:1']) {
    writeOciLayout(join(dir, name), { ...oneLayer, tag: 'v1' });
    mkdirSync(join(dir, name, 'sub'));
  }
  writeOciLayout(join(dir, 'tag'), { layers: [], tag: '1' });
  const layers = async (details: string) =>
    (await openSource(`oci:${dir}/${details}`)).layers.length;
  assert.equal(await layers('plain:v1'), 1);
  assert.equal(await layers('with:colon'), 1);
  assert.equal(await layers('with:colon:v1'), 1);
  // Both `tag` and `tag:1` are layouts: as in skopeo, the path ends at the first colon.
  assert.equal(await layers('tag:1'), 0);
});

test('symbolic links in a layout are followed', async t => {
  const dir = temporaryFolder(t);
  writeOciLayout(join(dir, 'real'), { layers: [{ tar: tarA, compression: 'gzip' }] });
  renameSync(join(dir, 'real', 'blobs'), join(dir, 'elsewhere'));
  symlinkSync('../elsewhere', join(dir, 'real', 'blobs'));
  symlinkSync('real', join(dir, 'link'));
  assert.ok((await readLayerOf(await openSource(`oci:${dir}/link`))).equals(tarA));
});

test("umoci's images are read", async t => {
  const dir = temporaryFolder(t);
  const image = ['--image', `${dir}/x:umoci`];
  writeFileSync(join(dir, 'layer.tar'), tarA);
  await runChecked('umoci', ['init', '--layout', join(dir, 'x')]);
  await runChecked('umoci', ['new', ...image]);
  await runChecked('umoci', ['raw', 'add-layer', ...image, join(dir, 'layer.tar')]);
  assert.ok((await readLayerOf(await openSource(`oci:${dir}/x:umoci`))).equals(tarA));
});

test('what is not a layout is said to be what it is', async t => {
  const dir = temporaryFolder(t);
  writeFileSync(join(dir, 'file'), 'x');
  mkdirSync(join(dir, 'empty'));
  await assertFault(openSource(`oci:${dir}/empty`), 'UNSUPPORTED', 'no file oci-layout');
  await assertFault(openSource(`oci:${dir}/empty:tag`), 'UNSUPPORTED', 'no file oci-layout');
  await assertFault(openSource(`oci:${dir}/file`), 'UNSUPPORTED', 'docker-archive:');
  await assertFault(openSource(`oci:${dir}/none:tag`), 'IO', `oci:${dir}/none:tag`, 'no such file');
  await assertFault(openSource('oci:'), 'USAGE', 'oci:DIR');
});

test('a layout whose own documents are broken is CORRUPT', async t => {
  const dir = temporaryFolder(t);
  const broken = async (name: string, bytes: string | Buffer | undefined) => {
    const copy = join(dir, 'x');
    rmSync(copy, { recursive: true, force: true });
    writeOciLayout(copy, oneLayer);
    if (bytes === undefined) rmSync(join(copy, name));
    else writeFileSync(join(copy, name), bytes);
    return openSource(`oci:${copy}`);
  };
  for (const bytes of [
    undefined,
    '',
    '{',
    'null',
    '[]',
    '{}',
    '"x"',
    '\ufeff{}',
    Buffer.from([0xff]),
  ]) {
    await assertFault(broken('index.json', bytes), 'CORRUPT', 'index.json of oci:');
  }
  await assertFault(broken('oci-layout', ''), 'CORRUPT', 'oci-layout of oci:');
  await assertFault(broken('oci-layout', '{}'), 'CORRUPT', 'imageLayoutVersion');
  const version2 = broken('oci-layout', '{"imageLayoutVersion":"2.0.0"}');
  await assertFault(version2, 'UNSUPPORTED', 'version 2.0.0');
  const index = (manifests: unknown) => JSON.stringify({ schemaVersion: 2, manifests });
  await assertFault(broken('index.json', index([])), 'UNSUPPORTED', 'empty');
  await assertFault(broken('index.json', index({})), 'CORRUPT', 'manifests');
  await assertFault(broken('index.json', index([null])), 'CORRUPT');
  await assertFault(broken('index.json', index([1])), 'CORRUPT');
  await assertFault(broken('index.json', '['.repeat(1_000_000)), 'CORRUPT', 'JSON');
  const deep = `{"a":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`;
  await assertFault(broken('index.json', deep), 'CORRUPT', 'index.json');
  await assertFault(broken('index.json', ' '.repeat(5_000_000)), 'LIMIT', 'index.json', '4194304');
});

test('descriptors that lie or play tricks are refused', async t => {
  const dir = temporaryFolder(t);
  writeFileSync(join(dir, 'secret'), 'x');
  const withEntry = (entry: object) => {
    const copy = join(dir, 'x');
    rmSync(copy, { recursive: true, force: true });
    const { manifest } = writeImageBlobs(copy, oneLayer);
    addToIndex(copy, { ...manifest, ...entry });
    return openSource(`oci:${copy}`);
  };
  const zeros = '0'.repeat(64);
  for (const digest of [
    'sha256:../../../secret',
    '../../secret',
    'sha256:',
    `sha256:${zeros}/../x`,
    `SHA256:${zeros}`,
    `sha256:${'A'.repeat(64)}`,
    `sha256:${zeros}\n`,
    7,
    null,
  ]) {
    await assertFault(withEntry({ digest }), 'CORRUPT', 'index.json of oci:', 'digest');
  }
  await assertFault(withEntry({ digest: `sha512:${zeros}` }), 'UNSUPPORTED', 'no SHA-256');
  await assertFault(withEntry({ digest: `sha256:${zeros}` }), 'NOT_FOUND', `sha256:${zeros}`, dir);
  for (const size of [-1, 1.5, 2 ** 60, '7', null]) {
    await assertFault(withEntry({ size }), 'CORRUPT', 'size');
  }
  await assertFault(withEntry({ size: 2 ** 40 }), 'LIMIT', '4194304');
  await assertFault(withEntry({ size: 3 }), 'CORRUPT', 'instead of 3');
  await assertFault(withEntry({ mediaType: 5 }), 'CORRUPT', 'mediaType');
  await assertFault(withEntry({ mediaType: 'text/plain' }), 'UNSUPPORTED', 'text/plain');
  await assertFault(withEntry({ mediaType: mediaTypes.index }), 'CORRUPT', 'index');
  const schema1 = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
  await assertFault(withEntry({ mediaType: schema1 }), 'UNSUPPORTED', 'schema 1', 'skopeo');
});

test('manifests that are none are refused', async t => {
  const dir = temporaryFolder(t);
  const opened = (damage: (manifest: Record<string, unknown>) => unknown) => {
    rmSync(join(dir, 'x'), { recursive: true, force: true });
    layoutWithManifest(join(dir, 'x'), damage);
    return openSource(`oci:${dir}/x`);
  };
  assert.equal((await opened(manifest => manifest)).layers.length, 1);
  await assertFault(
    opened(() => []),
    'CORRUPT',
    'manifest sha256:',
  );
  await assertFault(
    opened(m => ({ ...m, schemaVersion: 1 })),
    'UNSUPPORTED',
    'schema 1',
  );
  await assertFault(
    opened(m => ({ ...m, schemaVersion: 3 })),
    'CORRUPT',
    'schemaVersion',
  );
  await assertFault(
    opened(m => ({ ...m, mediaType: mediaTypes.index })),
    'CORRUPT',
  );
  await assertFault(
    opened(m => ({ ...m, manifests: [] })),
    'CORRUPT',
    'not clearly',
  );
  await assertFault(
    opened(m => ({ ...m, config: undefined })),
    'CORRUPT',
    'descriptor',
  );
  await assertFault(
    opened(m => ({ ...m, layers: 'x' })),
    'CORRUPT',
    'layers',
  );
  await assertFault(
    opened(m => ({ ...m, layers: [] })),
    'CORRUPT',
    '1 diff_ids for 0 layers',
  );
  const typed = (mediaType: string) =>
    opened(m => ({ ...m, layers: [{ ...(m['layers'] as Descriptor[])[0], mediaType }] }));
  await assertFault(typed(`${mediaTypes.layer}+gzip+encrypted`), 'UNSUPPORTED', 'encrypted');
  await assertFault(typed('application/vnd.erofs.layer.v1'), 'UNSUPPORTED', 'erofs');
  const helm = { mediaType: 'application/vnd.cncf.helm.config.v1+json' };
  const chart = opened(m => ({ ...m, config: { ...(m['config'] as Descriptor), ...helm } }));
  await assertFault(chart, 'UNSUPPORTED', 'helm');
  const layer = (m: Record<string, unknown>) => (m['layers'] as Descriptor[])[0];
  const many = opened(m => ({ ...m, layers: Array.from({ length: 1025 }, () => layer(m)) }));
  await assertFault(many, 'LIMIT', '1025 layers');
});

test('configs that are none are refused', async t => {
  const dir = temporaryFolder(t);
  const opened = (config: unknown) => {
    rmSync(join(dir, 'x'), { recursive: true, force: true });
    const path = join(dir, 'x');
    const bytes = Buffer.isBuffer(config) ? config : Buffer.from(JSON.stringify(config));
    const written = writeBlob(path, mediaTypes.config, bytes);
    layoutWithManifest(path, manifest => ({ ...manifest, config: written }));
    return openSource(`oci:${path}`);
  };
  const diffIds = [digestOf(tarB)];
  const right = { os: 'linux', architecture: 'amd64', rootfs: { diff_ids: diffIds } };
  assert.equal((await opened(right)).layers.length, 1);
  const unnamed = await opened({ rootfs: { diff_ids: diffIds } });
  assert.deepEqual(unnamed.platform, { os: 'unknown', architecture: 'unknown' });
  await assertFault(opened(Buffer.from('{')), 'CORRUPT', 'config sha256:');
  await assertFault(opened(Buffer.from([0x22, 0xff, 0x22])), 'CORRUPT', 'UTF-8');
  await assertFault(opened({}), 'CORRUPT', 'rootfs');
  await assertFault(opened({ ...right, rootfs: { diff_ids: 'x' } }), 'CORRUPT', 'diff_ids');
  await assertFault(opened({ ...right, rootfs: { diff_ids: ['x'] } }), 'CORRUPT', 'diff_id');
  await assertFault(opened({ ...right, rootfs: {} }), 'CORRUPT', '0 diff_ids for 1 layers');
  const huge = Buffer.alloc(9 * 1024 * 1024, ' ');
  await assertFault(opened(huge), 'LIMIT', '8388608');
});

test('damage to a blob is found, and named', async t => {
  const dir = temporaryFolder(t);
  const gzipped = { layers: [{ tar: tarA, compression: 'gzip' as const }] };
  const damaged = (blob: 'manifest' | 'config' | 'layer', change: (path: string) => void) => {
    const copy = join(dir, 'x');
    rmSync(copy, { recursive: true, force: true });
    const written = writeOciLayout(copy, gzipped);
    const { digest } = blob === 'layer' ? written.layers[0]! : written[blob];
    change(blobPath(copy, digest));
    return { digest, opened: openSource(`oci:${copy}`) };
  };
  const flip = (path: string) => flipByte(path, 10);
  for (const blob of ['manifest', 'config', 'layer'] as const) {
    const shorter = damaged(blob, path => truncateSync(path, 20));
    await assertFault(shorter.opened, 'CORRUPT', shorter.digest, 'has 20 bytes', dir);
    const longer = damaged(blob, path => writeFileSync(path, 'x', { flag: 'a' }));
    await assertFault(longer.opened, 'CORRUPT', longer.digest, dir);
    const absent = damaged(blob, path => rmSync(path));
    await assertFault(absent.opened, 'NOT_FOUND', absent.digest, dir);
    const folder = damaged(blob, path => {
      rmSync(path);
      mkdirSync(path);
    });
    await assertFault(folder.opened, 'UNSUPPORTED', folder.digest, 'regular');
  }
  for (const blob of ['manifest', 'config'] as const) {
    const flipped = damaged(blob, flip);
    await assertFault(flipped.opened, 'CORRUPT', flipped.digest, dir);
  }
  // In the gzip header, so that the tar stays right and the blob's digest alone tells.
  const layer = damaged('layer', path => flipByte(path, 4));
  const fault = await assertFault(readLayerOf(await layer.opened), 'CORRUPT', layer.digest, dir);
  assert.match(fault.message, /digest sha256:/);
  const middle = damaged('layer', path => flipByte(path, 100_000));
  await assertFault(readLayerOf(await middle.opened), 'CORRUPT', middle.digest, dir);
  assert.deepEqual(openFilesBelow(dir), []);
});

function flipByte(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

test('a tar that is not the diffID is CORRUPT at its end, compressed or not', async t => {
  const dir = temporaryFolder(t);
  for (const [tag, blob] of Object.entries({ plain: tarA, packed: gzipSync(tarA) })) {
    writeOciLayout(dir, { layers: [{ tar: tarB, compression: 'none', blob }], tag });
    const image = await openSource(`oci:${dir}:${tag}`);
    await assertFault(readLayerOf(image), 'CORRUPT', digestOf(tarA), digestOf(tarB), dir);
  }
  // The diffID of the packed bytes is no diffID of a tar.
  const packed = gzipSync(tarB);
  writeOciLayout(dir, { layers: [{ tar: packed, compression: 'none' }], tag: 'odd' });
  const image = await openSource(`oci:${dir}:odd`);
  assert.ok((await readLayerOf(image)).equals(packed));
});

test('pipes and devices are refused and never waited for', async t => {
  const dir = temporaryFolder(t);
  for (const name of ['oci-layout', 'index.json', 'blob']) {
    const copy = join(dir, name);
    const { manifest } = writeOciLayout(copy, oneLayer);
    const path = name === 'blob' ? blobPath(copy, manifest.digest) : join(copy, name);
    rmSync(path);
    await runChecked('mkfifo', [path]);
    await assertFault(openSource(`oci:${copy}`), 'UNSUPPORTED', dir, 'regular');
    rmSync(path);
    symlinkSync('/dev/zero', path);
    await assertFault(openSource(`oci:${copy}`), 'UNSUPPORTED', dir, 'regular');
  }
});

test('a blob that becomes a pipe after it was checked is refused too', async t => {
  const dir = temporaryFolder(t);
  const { layers } = writeOciLayout(dir, oneLayer);
  const image = await openSource(`oci:${dir}`);
  rmSync(blobPath(dir, layers[0]!.digest));
  await assertFault(readLayerOf(image), 'NOT_FOUND', layers[0]!.digest);
  await runChecked('mkfifo', [blobPath(dir, layers[0]!.digest)]);
  await assertFault(readLayerOf(image), 'UNSUPPORTED', layers[0]!.digest);
});

test('stopping early, and aborting, closes the file', async t => {
  const dir = temporaryFolder(t);
  const tar = tarOf([{ path: 'big', content: new Random(2).bytes(8_000_000) }]);
  writeOciLayout(dir, {
    layers: [
      { tar, compression: 'gzip' },
      { tar, compression: 'zstd' },
      { tar, compression: 'none' },
    ],
  });
  const image = await openSource(`oci:${dir}`);
  for (const index of [0, 1, 2]) {
    for await (const piece of image.openLayer(index, {})) {
      assert.ok(piece.length > 0);
      assert.equal(openFilesBelow(dir).length, 1);
      break;
    }
    assert.deepEqual(openFilesBelow(dir), []);
    const abort = new AbortController();
    const reason = new Error('enough');
    await assert.rejects(async () => {
      for await (const _ of image.openLayer(index, { signal: abort.signal })) abort.abort(reason);
    }, reason);
    assert.deepEqual(openFilesBelow(dir), []);
  }
  await assert.rejects(openSource(`oci:${dir}`, { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
});

test('transports that are not for here are named', async () => {
  await assertFault(openSource('docker:busybox'), 'USAGE', 'docker://HOST/REPO');
  await assertFault(openSource('disk:x.img'), 'USAGE', 'oci:DIR');
  for (const reference of ['', 'busybox', '/path/x', 'oci', 'docker-daemon:x', ':x', 'OCI:x']) {
    await assertFault(
      openSource(reference),
      'USAGE',
      'oci:DIR[:TAG], docker-archive:FILE[:REF] or',
    );
  }
});
