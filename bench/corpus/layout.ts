/** An OCI layout with one image: made by umoci, read to say what its layers hold. */

import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { copyFile, link, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { runChecked } from '../../test/support/processes.ts';
import type { ConfigDefinition } from './definition.ts';

const umociTimeoutMs = 30 * 60_000;

export interface LayerSummary {
  digest: string;
  /** As stored. */
  sizeBytes: number;
  entryCount: number;
  /** Sum of the sizes of its regular files. */
  contentBytes: number;
}

interface Descriptor {
  digest: string;
  size: number;
  annotations?: Record<string, string>;
}

interface Index {
  manifests: Descriptor[];
}

interface Manifest {
  config: Descriptor;
  layers: Descriptor[];
}

interface Config {
  rootfs: { diff_ids: string[] };
  history: object[];
}

/** umoci on one layout. Its times are the archive's, so that equal images are equal bytes. */
export class Layout {
  readonly dir: string;
  readonly #tag: string;
  readonly #created: string;

  constructor(dir: string, tag: string, epochSeconds: number) {
    this.dir = dir;
    this.#tag = tag;
    this.#created = new Date(epochSeconds * 1000).toISOString();
  }

  async createFromTar(tarFile: string): Promise<void> {
    await umoci(['init', '--layout', this.dir]);
    await umoci(['new', ...this.#image()]);
    const history = `--history.created=${this.#created}`;
    await umoci(['raw', 'add-layer', ...this.#image(), history, tarFile]);
  }

  /** The image of another layout under this one's tag; top layers are left off. */
  async createFrom(below: { layoutDir: string }, withoutTop: number): Promise<void> {
    const blobs = join('blobs', 'sha256');
    await mkdir(join(this.dir, blobs), { recursive: true });
    await copyFile(join(below.layoutDir, 'oci-layout'), join(this.dir, 'oci-layout'));
    for (const name of await readdir(join(below.layoutDir, blobs))) {
      await link(join(below.layoutDir, blobs, name), join(this.dir, blobs, name));
    }
    const index = readJson(join(below.layoutDir, 'index.json')) as Index;
    const [image, ...others] = index.manifests;
    if (image === undefined || others.length > 0)
      throw new Error(`${below.layoutDir}: not one image`);
    const manifest = readJson(blobPath(this.dir, image)) as Manifest;
    const config = readJson(blobPath(this.dir, manifest.config)) as Config;
    // umoci writes one entry of history for each layer and none for the config.
    for (const list of [manifest.layers, config.rootfs.diff_ids, config.history]) {
      list.length -= withoutTop;
    }
    Object.assign(manifest.config, await this.#writeBlob(config));
    Object.assign(image, await this.#writeBlob(manifest));
    image.annotations = { 'org.opencontainers.image.ref.name': this.#tag };
    await writeFile(join(this.dir, 'index.json'), JSON.stringify(index));
  }

  async unpack(bundle: string): Promise<void> {
    await umoci(['unpack', ...this.#image(), bundle]);
  }

  /** Adds what has changed in the bundle since it was unpacked or last repacked as a layer. */
  async repack(bundle: string): Promise<void> {
    const history = `--history.created=${this.#created}`;
    await umoci(['repack', ...this.#image(), history, '--refresh-bundle', bundle]);
  }

  async configure(config: ConfigDefinition): Promise<void> {
    const lists = {
      entrypoint: config.entrypoint,
      cmd: config.cmd,
      env: config.env,
      exposedports: config.exposedPorts,
    };
    const cleared = ['entrypoint', 'cmd'] as const;
    const args = [
      `--created=${this.#created}`,
      ...cleared.filter(name => lists[name] !== undefined).map(name => `--clear=config.${name}`),
      ...Object.entries(lists).flatMap(([name, values]) =>
        (values ?? []).map(value => `--config.${name}=${value}`),
      ),
      ...(config.user === undefined ? [] : [`--config.user=${config.user}`]),
      ...(config.workingDir === undefined ? [] : [`--config.workingdir=${config.workingDir}`]),
    ];
    await umoci(['config', ...this.#image(), '--no-history', ...args]);
    await umoci(['gc', '--layout', this.dir]);
  }

  #image(): string[] {
    return ['--image', `${this.dir}:${this.#tag}`];
  }

  async #writeBlob(value: object): Promise<{ digest: string; size: number }> {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    // The same blob may be there as another layout's file: never written through.
    await writeFile(blobPath(this.dir, { digest }), bytes, { flag: 'wx' }).catch(ignoreExisting);
    return { digest, size: bytes.length };
  }
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

async function umoci(args: readonly string[]): Promise<void> {
  await runChecked('umoci', args, { timeoutMs: umociTimeoutMs });
}

/** Layers that are `known` already are not read again. */
export async function summarizeLayers(
  layoutDir: string,
  known: readonly LayerSummary[],
): Promise<LayerSummary[]> {
  const index = readJson(join(layoutDir, 'index.json')) as Index;
  const [image, ...others] = index.manifests;
  if (image === undefined || others.length > 0) throw new Error(`${layoutDir}: not one image`);
  const manifest = readJson(blobPath(layoutDir, image)) as Manifest;
  const summaries = [];
  for (const layer of manifest.layers) {
    const summary = known.find(({ digest }) => digest === layer.digest);
    summaries.push(summary ?? (await summarizeLayer(layoutDir, layer)));
  }
  return summaries;
}

async function summarizeLayer(layoutDir: string, layer: Descriptor): Promise<LayerSummary> {
  const summary = { digest: layer.digest, sizeBytes: layer.size, entryCount: 0, contentBytes: 0 };
  const entries = extract();
  entries.on('entry', (header, stream, next) => {
    summary.entryCount++;
    if (header.type === 'file') summary.contentBytes += header.size ?? 0;
    stream.on('end', next);
    stream.resume();
  });
  await pipeline(createReadStream(blobPath(layoutDir, layer)), createGunzip(), entries);
  return summary;
}

function blobPath(layoutDir: string, { digest }: Pick<Descriptor, 'digest'>): string {
  return join(layoutDir, 'blobs', ...digest.split(':'));
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}
