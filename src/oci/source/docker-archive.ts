/**
 * `docker-archive:FILE[:REF]`: what `docker save` writes, in both its forms, read in place. Today's
 * is an OCI layout within a tar; the classic one has a manifest.json (Docker image spec v1.2) that
 * names a config and layers by path. Other tools (podman, kaniko, Bazel) write the classic form too.
 */

import { stat } from 'node:fs/promises';
import { type OciDigest, ociDigest } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';
import { configSizeMaxBytes, manifestSizeMaxBytes } from '../../base/limits.ts';
import type { SourceImage } from '../source-image.ts';
import { Archive } from './archive.ts';
import { type ChosenManifest, openBlobImage } from './blob-image.ts';
import { checkLayerCount, type Descriptor, type ImageConfig, parseConfig } from './documents.ts';
import type { FileRange } from './file-range.ts';
import {
  asArray,
  asObject,
  asString,
  type JsonObject,
  malformed,
  parseJson,
  utf8Text,
} from './json.ts';
import { checkMarker, readIndexFile, tagOf } from './oci-layout.ts';
import { nearestPath, splitPathReference } from './path-reference.ts';
import {
  absentName,
  bestPlatform,
  entriesOfImage,
  type SelectOptions,
  selectManifest,
  severalImages,
} from './select.ts';

const nameAnnotation = 'io.containerd.image.name';
const dockerManifestType = 'application/vnd.docker.distribution.manifest.v2+json';
const dockerConfigType = 'application/vnd.docker.container.image.v1+json';

export async function openDockerArchive(
  reference: string,
  details: string,
  options: SelectOptions,
): Promise<SourceImage> {
  const split = await splitPathReference(details, isFile);
  if (split === undefined) throw await noArchive(reference, details);
  const archive = await Archive.open(reference, split.path, options);
  try {
    const chosen =
      archive.has('oci-layout') && archive.has('index.json')
        ? await chooseFromLayout(archive, split.name, options)
        : await chooseFromManifestJson(archive, split.name, options);
    return await openBlobImage(archive, chosen, options);
  } catch (error) {
    await archive.close();
    throw error;
  }
}

async function chooseFromLayout(
  archive: Archive,
  name: string | undefined,
  options: SelectOptions,
): Promise<ChosenManifest> {
  const { reference } = archive;
  const marker = await archive.document('oci-layout', manifestSizeMaxBytes);
  checkMarker(marker, `oci-layout of ${reference}`);
  const entries = readIndexFile(
    await archive.document('index.json', manifestSizeMaxBytes),
    reference,
  );
  const image = entriesOfImage(reference, entries, {
    nameOf,
    wanted: name === undefined ? undefined : { text: name, matches: entry => isNamed(entry, name) },
  });
  return selectManifest(archive, image, options);
}

function nameOf(entry: Descriptor): string | undefined {
  const name = entry.annotations[nameAnnotation];
  return typeof name === 'string' ? name : tagOf(entry);
}

function isNamed(entry: Descriptor, name: string): boolean {
  const own = nameOf(entry);
  return tagOf(entry) === name || (own !== undefined && fullName(own) === fullName(name));
}

/** Docker writes `busybox` for what is `docker.io/library/busybox:latest`. */
function fullName(name: string): string {
  const familiar = name.replace(/^(index\.)?docker\.io\//, '').replace(/^library\//, '');
  return /:[^/]*$/.test(familiar) ? familiar : `${familiar}:latest`;
}

async function chooseFromManifestJson(
  archive: Archive,
  name: string | undefined,
  options: SelectOptions,
): Promise<ChosenManifest> {
  const { reference } = archive;
  const where = `manifest.json of ${reference}`;
  if (!archive.has('manifest.json')) {
    throw new ImgstoreError('UNSUPPORTED', `Cannot open ${reference}: it holds no image`, {
      hint: 'It has neither index.json nor manifest.json; write it with docker save.',
    });
  }
  const bytes = await archive.document('manifest.json', manifestSizeMaxBytes);
  const list = asArray(parseJson(utf8Text(bytes, where), where), where, 'it');
  const entry = entryNamed(
    reference,
    list.map(each => asObject(each, where, 'an entry')),
    name,
  );
  const config = await readClassicConfig(archive, asString(entry['Config'], where, 'Config'));
  if (options.wish.explicit) bestPlatform(reference, [config.platform], options.wish);
  const layers = asArray(entry['Layers'] ?? [], where, 'Layers');
  checkLayerCount(layers.length, where);
  if (layers.length !== config.diffIds.length) {
    throw malformed(where, `it has ${layers.length} layers for ${config.diffIds.length} diff_ids`);
  }
  const descriptors: Descriptor[] = [];
  for (const [index, path] of layers.entries()) {
    const layer = archive.member(asString(path, where, 'the path of a layer'));
    descriptors.push(await archive.addLayer(layer, config.diffIds[index]!, options));
  }
  return classicManifest(archive.addBlob(dockerConfigType, config), descriptors);
}

function entryNamed(
  reference: string,
  entries: readonly JsonObject[],
  name: string | undefined,
): JsonObject {
  const tagsOf = (entry: JsonObject): string[] => {
    const tags = entry['RepoTags'];
    return Array.isArray(tags) ? tags.filter(tag => typeof tag === 'string') : [];
  };
  const named =
    name === undefined
      ? entries
      : entries.filter(entry => tagsOf(entry).some(tag => fullName(tag) === fullName(name)));
  const [entry, ...others] = named;
  if (entry !== undefined && others.length === 0) return entry;
  if (entry !== undefined) throw severalImages(reference, named.flatMap(tagsOf));
  throw absentName(reference, name ?? 'at all', entries.flatMap(tagsOf));
}

interface ClassicConfig extends ImageConfig {
  range: FileRange;
  digest: OciDigest;
}

async function readClassicConfig(archive: Archive, path: string): Promise<ClassicConfig> {
  const where = `config of ${archive.reference}`;
  const range = archive.member(path);
  const bytes = await archive.document(path, configSizeMaxBytes);
  const digest = ociDigest(bytes);
  const named = /^(?:blobs\/sha256\/)?([0-9a-f]{64})(?:\.json)?$/.exec(path)?.[1];
  if (named !== undefined && digest !== `sha256:${named}`) {
    throw malformed(
      where,
      `its name is ${path.slice(0, 100)}, its bytes have the digest ${digest}`,
    );
  }
  return { ...parseConfig(bytes, where), range, digest };
}

/**
 * The classic form has no manifest. This is the one that skopeo makes of it, so that the digest
 * is the one which `skopeo inspect` shows (unless layers are compressed: skopeo names them
 * unpacked).
 */
function classicManifest(config: Descriptor, layers: readonly Descriptor[]): ChosenManifest {
  const shown = ({ mediaType, sizeBytes: size, digest }: Descriptor) => ({
    mediaType,
    size,
    digest,
  });
  const text = JSON.stringify({
    schemaVersion: 2,
    mediaType: dockerManifestType,
    config: shown(config),
    layers: layers.map(shown),
  });
  return { digest: ociDigest(Buffer.from(text)), manifest: { config, layers } };
}

async function isFile(path: string): Promise<boolean> {
  try {
    return !(await stat(path)).isDirectory();
  } catch {
    return false;
  }
}

async function noArchive(reference: string, details: string): Promise<ImgstoreError> {
  const { path } = await nearestPath(reference, details);
  return new ImgstoreError('UNSUPPORTED', `Cannot open ${reference}: ${path} is a directory`, {
    hint: 'Name a file that docker save wrote, or use oci:DIR for an OCI image layout.',
  });
}
