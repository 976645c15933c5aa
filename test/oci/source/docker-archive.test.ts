import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { openSource } from '../../../src/oci/source/open.ts';
import { formatPlatform } from '../../../src/oci/source/platform.ts';
import { digestOf, writeOciLayout } from '../../support/oci-layout.ts';
import { runChecked } from '../../support/processes.ts';
import { Random } from '../../support/random.ts';
import { base256, TarBuilder, tarOf } from '../../support/tar-builder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault, openFilesBelow, readLayerOf } from './streams.ts';

const random = new Random(21);
const tarA = tarOf([{ path: 'a', content: random.bytes(300_000) }]);
const tarB = tarOf([{ path: 'b', content: 'b' }]);

function configOf(tars: readonly Buffer[], more: object = {}): Buffer {
  const config = {
    os: 'linux',
    architecture: 'amd64',
    rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
    ...more,
  };
  return Buffer.from(JSON.stringify(config));
}

function configName(config: Buffer): string {
  return `${digestOf(config).slice('sha256:'.length)}.json`;
}

/** Tar headers hold characters of one byte. */
function file(tar: TarBuilder, name: string, content: Buffer | string): TarBuilder {
  return tar.entry({ name }, Buffer.from(content as string));
}

function manifestJson(...entries: object[]): string {
  return JSON.stringify(entries);
}

function written(dir: string, bytes: Buffer): string {
  const path = join(dir, 'image.tar');
  writeFileSync(path, bytes);
  return `docker-archive:${path}`;
}

/** Of two layers, as docker save wrote it before version 25. */
function classicArchive(): { bytes: Buffer; config: Buffer } {
  const config = configOf([tarA, tarB]);
  const tar = new TarBuilder()
    .entry({ name: 'aaa/', type: '5' })
    .entry({ name: 'aaa/VERSION' }, '1.0');
  file(tar, 'aaa/layer.tar', tarA);
  file(tar, configName(config), config);
  file(tar, 'bbb/layer.tar', tarB);
  const entry = {
    Config: configName(config),
    RepoTags: ['busybox:latest', 'example.org/x:1'],
    Layers: ['aaa/layer.tar', 'bbb/layer.tar'],
  };
  file(tar, 'manifest.json', manifestJson(entry));
  return { bytes: file(tar, 'repositories', '{}').end(), config };
}

test('the classic form is read in place', async t => {
  const dir = temporaryFolder(t);
  const { bytes, config } = classicArchive();
  const image = await openSource(written(dir, bytes));
  assert.equal(image.configText, config.toString());
  assert.equal(formatPlatform(image.platform), 'linux/amd64');
  assert.deepEqual(image.layers, [
    { digest: digestOf(tarA), sizeBytes: tarA.length, diffId: digestOf(tarA) },
    { digest: digestOf(tarB), sizeBytes: tarB.length, diffId: digestOf(tarB) },
  ]);
  const tars = await Promise.all([0, 1, 0].map(index => readLayerOf(image, index)));
  assert.ok(tars[0]!.equals(tarA) && tars[1]!.equals(tarB) && tars[2]!.equals(tarA));
  assert.equal(openFilesBelow(dir).length, 1);
  await image.close();
  assert.deepEqual(openFilesBelow(dir), []);
});

test('names are found as Docker would find them', async t => {
  const dir = temporaryFolder(t);
  const reference = written(dir, classicArchive().bytes);
  for (const name of [
    'busybox',
    'busybox:latest',
    'docker.io/library/busybox',
    'example.org/x:1',
  ]) {
    await (await openSource(`${reference}:${name}`)).close();
  }
  await assertFault(openSource(`${reference}:alpine`), 'NOT_FOUND', 'alpine', 'busybox:latest');
  await assertFault(openSource(`${reference}:example.org/x`), 'NOT_FOUND', 'example.org/x:1');
  await assertFault(openSource(reference, { platform: 'linux/arm64' }), 'NOT_FOUND', 'linux/amd64');
  assert.deepEqual(openFilesBelow(dir), []);
});

test('of several images one has to be named', async t => {
  const dir = temporaryFolder(t);
  const config = configOf([tarB]);
  const tar = file(new TarBuilder(), 'l', tarB);
  file(tar, 'c', config);
  const entry = (tags: string[] | null) => ({ Config: 'c', RepoTags: tags, Layers: ['l'] });
  file(tar, 'manifest.json', manifestJson(entry(['a:1', 'a:2']), entry(['b:1']), entry(null)));
  const reference = written(dir, tar.end());
  await (await openSource(`${reference}:a:2`)).close();
  await assertFault(openSource(reference), 'USAGE', 'a:1, a:2, b:1');
});

test('layers may be links, compressed, in any order and under any kind of name', async t => {
  const dir = temporaryFolder(t);
  const [gzipped, zipped] = [gzipSync(tarA), zstdCompressSync(tarA)];
  const config = configOf([tarB, tarB, tarB, tarA, tarA, tarA]);
  const long = `${'d'.repeat(120)}/layer.tar`;
  const tar = new TarBuilder();
  const entry = {
    Config: './config',
    RepoTags: null,
    Layers: ['y/layer.tar', 'z/layer.tar', 'w', 'g.tar.gz', 'sub/../z.tar.zst', long],
  };
  file(tar, './manifest.json', manifestJson(entry));
  tar.entry({ name: 'y/layer.tar', type: '2', linkName: '../x/layer.tar' });
  tar.entry({ name: 'z/layer.tar', type: '1', linkName: 'x/layer.tar' });
  tar.entry({ name: 'w', type: '2', linkName: '/y/layer.tar' });
  file(tar, 'x/layer.tar', tarA); // replaced below: the last of a name counts
  file(tar, 'g.tar.gz', gzipped);
  file(tar, 'z.tar.zst', zipped);
  file(tar.longName(long), 'short', tarA);
  tar.pax([
    ['path', 'x/layer.tar'],
    ['size', String(tarB.length)],
  ]);
  tar.entry({ name: 'short', size: base256(1n, 12) }, tarB);
  file(tar.pax([['path', 'never']], 'g'), 'config', config);
  const image = await openSource(written(dir, tar.end()));
  const { layers } = image;
  assert.deepEqual(
    layers.map(layer => layer.digest),
    [tarB, tarB, tarB, gzipped, zipped, tarA].map(digestOf),
  );
  for (const [index, expected] of [tarB, tarB, tarB, tarA, tarA, tarA].entries()) {
    assert.ok((await readLayerOf(image, index)).equals(expected), `layer ${index}`);
  }
  await image.close();
});

test("skopeo's archive gives the digest that skopeo shows, and the layers", async t => {
  const dir = temporaryFolder(t);
  const layout = writeOciLayout(join(dir, 'x'), {
    layers: [
      { tar: tarA, compression: 'gzip' },
      { tar: tarB, compression: 'none' },
    ],
    tag: 't',
  });
  const archive = `docker-archive:${dir}/image.tar`;
  const skopeo = (...args: string[]) => runChecked('skopeo', ['--insecure-policy', ...args]);
  await skopeo('copy', '-q', `oci:${dir}/x:t`, `${archive}:example.org/name:t`);
  const { stdout } = await skopeo('inspect', '--format', '{{.Digest}}', archive);
  const image = await openSource(`${archive}:example.org/name:t`);
  assert.equal(image.manifestDigest, stdout.trim());
  assert.deepEqual(
    image.layers.map(layer => layer.diffId),
    layout.layers.map(layer => layer.diffId),
  );
  assert.ok((await readLayerOf(image, 0)).equals(tarA));
  assert.ok((await readLayerOf(image, 1)).equals(tarB));
  await image.close();
});

test("today's docker save, a layout in a tar, is read by its index.json", async t => {
  const dir = temporaryFolder(t);
  const layout = join(dir, 'x');
  const image = { layers: [{ tar: tarA, compression: 'gzip' as const }] };
  const first = writeOciLayout(layout, { ...image, tag: 'latest' });
  const second = writeOciLayout(layout, { layers: [], tag: 'latest' });
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
  const names = ['docker.io/library/busybox:latest', 'example.org/x:latest'];
  for (const [i, name] of names.entries()) {
    index.manifests[i].annotations['io.containerd.image.name'] = name;
  }
  writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
  writeFileSync(join(layout, 'manifest.json'), '[]');
  await runChecked('tar', ['-C', layout, '-cf', join(dir, 'image.tar'), '.']);
  const archive = `docker-archive:${dir}/image.tar`;
  const opened = await openSource(`${archive}:busybox`);
  assert.equal(opened.manifestDigest, first.manifest.digest);
  assert.ok((await readLayerOf(opened)).equals(tarA));
  await opened.close();
  const other = await openSource(`${archive}:example.org/x`);
  assert.equal(other.manifestDigest, second.manifest.digest);
  await other.close();
  await assertFault(openSource(archive), 'USAGE', names.join(', '));
  await assertFault(openSource(`${archive}:latest`), 'USAGE', names.join(', '));
  await assertFault(openSource(`${archive}:alpine`), 'NOT_FOUND', names.join(', '));
});

test('what is not such an archive is said to be what it is', async t => {
  const dir = temporaryFolder(t);
  const { bytes } = classicArchive();
  const refused = (content: Buffer | string) =>
    openSource(written(dir, Buffer.from(content as string)));
  await assertFault(refused(gzipSync(bytes)), 'UNSUPPORTED', 'gzip -d', dir);
  await assertFault(refused(zstdCompressSync(bytes)), 'UNSUPPORTED', 'zstd -d');
  await assertFault(refused('BZh91AY&SY'), 'UNSUPPORTED', 'bzip2 -d');
  await assertFault(refused(''), 'UNSUPPORTED', 'no image');
  await assertFault(refused('short'), 'CORRUPT', dir);
  await assertFault(refused('text '.repeat(1000)), 'CORRUPT', 'no tar archive', dir);
  await assertFault(refused(tarB), 'UNSUPPORTED', 'manifest.json');
  await assertFault(openSource(`docker-archive:${dir}`), 'UNSUPPORTED', 'directory', 'oci:DIR');
  await assertFault(openSource(`docker-archive:${dir}/none:x`), 'IO', 'no such file');
  await assertFault(openSource('docker-archive:'), 'USAGE');
  await runChecked('mkfifo', [join(dir, 'pipe')]);
  await assertFault(openSource(`docker-archive:${dir}/pipe:x`), 'UNSUPPORTED', 'regular');
  assert.deepEqual(openFilesBelow(dir), []);
});

test('a path may have colons, and ends at the first where a file is', async t => {
  const dir = temporaryFolder(t);
  mkdirSync(join(dir, 'a'));
  const { bytes } = classicArchive();
  for (const name of ['a:b', 'c']) writeFileSync(join(dir, name), bytes);
  for (const details of ['a:b', 'a:b:busybox', 'c:busybox:latest']) {
    await (await openSource(`docker-archive:${dir}/${details}`)).close();
  }
});

test('damage is found, and the archive closed', async t => {
  const dir = temporaryFolder(t);
  const { bytes } = classicArchive();
  const archiveOf = (manifest: string | object[], members: Record<string, Buffer | string>) => {
    const tar = new TarBuilder();
    const text = typeof manifest === 'string' ? manifest : JSON.stringify(manifest);
    file(tar, 'manifest.json', text);
    for (const [name, content] of Object.entries(members)) file(tar, name, content);
    return openSource(written(dir, tar.end()));
  };
  const config = configOf([tarB]);
  const right = { Config: 'c', RepoTags: [], Layers: ['l'] };
  const members = { c: config, l: tarB };
  await (await archiveOf([right], members)).close();
  for (const text of ['', '{', '{}', '[1]', 'null', '[{}]']) {
    await assertFault(archiveOf(text, members), 'CORRUPT', 'manifest.json of docker-archive:', dir);
  }
  await assertFault(archiveOf('[]', members), 'NOT_FOUND', dir);
  await assertFault(archiveOf(' '.repeat(5_000_000), members), 'LIMIT', 'manifest.json');
  await assertFault(archiveOf([{ ...right, Config: 7 }], members), 'CORRUPT', 'Config');
  await assertFault(archiveOf([{ ...right, Layers: 'l' }], members), 'CORRUPT', 'Layers');
  await assertFault(archiveOf([{ ...right, Layers: [7] }], members), 'CORRUPT', 'layer');
  await assertFault(archiveOf([{ ...right, Layers: [] }], members), 'CORRUPT', '0 layers for 1');
  const outside = [{ ...right, Layers: ['../../../etc/passwd'] }];
  await assertFault(archiveOf(outside, members), 'NOT_FOUND', 'etc/passwd', dir);
  await assertFault(archiveOf([right], { l: tarB }), 'NOT_FOUND', 'c of docker-archive:');
  await assertFault(archiveOf([right], { ...members, c: '{' }), 'CORRUPT', 'config of');
  const huge = { ...members, c: Buffer.alloc(9_000_000) };
  await assertFault(archiveOf([right], huge), 'LIMIT', '8388608');
  const renamed = [{ ...right, Config: configName(config) }];
  const flipped = Buffer.from(config);
  flipped[20]! ^= 1;
  const wrongName = archiveOf(renamed, { [configName(config)]: flipped, l: tarB });
  await assertFault(wrongName, 'CORRUPT', digestOf(flipped));
  // The layer is another than the config says.
  const wrongLayer = await archiveOf([right], { ...members, l: tarA });
  await assertFault(readLayerOf(wrongLayer), 'CORRUPT', digestOf(tarB), dir);
  await wrongLayer.close();

  const path = join(dir, 'image.tar');
  writeFileSync(path, bytes);
  truncateSync(path, 200_000);
  await assertFault(openSource(`docker-archive:${path}`), 'CORRUPT', 'beyond', dir);
  assert.deepEqual(openFilesBelow(dir), []);
});

test('links in a circle, negative sizes and sparse members lead nowhere', async t => {
  const dir = temporaryFolder(t);
  const circle = new TarBuilder();
  circle.entry({ name: 'manifest.json', type: '2', linkName: 'b' });
  circle.entry({ name: 'b', type: '1', linkName: 'manifest.json' });
  await assertFault(openSource(written(dir, circle.end())), 'UNSUPPORTED', 'no image');
  const negative = new TarBuilder().entry({ name: 'x', size: base256(-512n, 12) }).end();
  await assertFault(openSource(written(dir, negative)), 'CORRUPT', dir);
  const endless = new TarBuilder().entry({ name: 'x', size: base256(2n ** 50n, 12) });
  const second = new TarBuilder().entry({ name: 'y' }).raw(endless.end()).end();
  await assertFault(openSource(written(dir, second)), 'CORRUPT', 'beyond', 'byte 512');
  const sparse = new TarBuilder().entry({ name: 'x', type: 'S', format: 'gnu' }).end();
  await assertFault(openSource(written(dir, sparse)), 'UNSUPPORTED', 'sparse');
  const longName = new TarBuilder().longName('x'.repeat(5000)).entry({ name: 'x' }).end();
  await assertFault(openSource(written(dir, longName)), 'LIMIT', '4096');
  const longHeader = new TarBuilder()
    .longName('x'.repeat(2 ** 20))
    .entry({ name: 'x' })
    .end();
  await assertFault(openSource(written(dir, longHeader)), 'LIMIT', 'extended header');
});

test('the number of members is bounded', async t => {
  const dir = temporaryFolder(t);
  const block = new TarBuilder().entry({ name: 'x' }).end(0);
  const members = Buffer.alloc(512 * 70_000, block);
  // One name many times is one member; of many names the archive is refused.
  await assertFault(openSource(written(dir, members)), 'UNSUPPORTED', 'no image');
  for (let i = 0; i < 70_000; i++) {
    const header = members.subarray(i * 512, (i + 1) * 512);
    header.write(String(i).padStart(8, '0'), 0, 'latin1');
    header.fill(' ', 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  }
  await assertFault(openSource(written(dir, members)), 'LIMIT', '65536', dir);
});
