/**
 * Builds the corpus' images with mmdebstrap and umoci, once per definition and Debian release. An
 * image's folder appears by a rename when it is whole; builders of the same image wait for each
 * other. Layers of the image below are the same blobs.
 */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { runChecked } from '../../test/support/processes.ts';
import {
  bootstrap,
  type DebianArchive,
  debianRelease,
  installPackages,
  openArchive,
  runScript,
  settle,
} from './debian.ts';
import { type ConfigDefinition, definitions, type ImageName } from './definitions.ts';
import { type LayerSummary, summarizeLayers } from './layout.ts';
import { lockFile } from './lock.ts';

/** Part of every image's key: raised when images come out otherwise for the same definition. */
const builderVersion = 1;

const umociTimeoutMs = 30 * 60_000;

export interface CorpusImage {
  name: ImageName;
  /** An OCI image layout with this one image. */
  layoutDir: string;
  /** The image's tag in it: its name. */
  tag: string;
  /** `oci:LAYOUT:TAG`, as imgstore and skopeo take it. */
  source: string;
  layers: LayerSummary[];
}

export type Report = (step: string) => void;

export function defaultCacheDir(): string {
  const caches = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(caches, 'imgstore-corpus');
}

export function isImageName(name: string): name is ImageName {
  return Object.hasOwn(definitions, name);
}

/** The image from the cache, built first if it is not there. Needs root, as containers do. */
export async function buildImage(
  name: ImageName,
  cacheDir: string = defaultCacheDir(),
  report: Report = () => {},
): Promise<CorpusImage> {
  const dir = join(cacheDir, `${name}-${await imageKey(name)}`);
  if (!existsSync(dir)) {
    const { from } = definitions[name];
    const below = from && (await buildImage(from, cacheDir, report));
    await mkdir(cacheDir, { recursive: true });
    await using _ = await lockFile(`${dir}.lock`);
    if (!existsSync(dir)) await buildInto(dir, name, below, report);
  }
  const layers = JSON.parse(readFileSync(join(dir, 'layers.json'), 'utf8')) as LayerSummary[];
  const layoutDir = join(dir, 'layout');
  return { name, layoutDir, tag: name, source: `oci:${layoutDir}:${name}`, layers };
}

/** Of all that goes into the image, but for the day's state of the archive. */
async function imageKey(name: ImageName): Promise<string> {
  const chain = [];
  for (let next: ImageName | undefined = name; next; next = definitions[next].from) {
    chain.push(definitions[next]);
  }
  const key = JSON.stringify([builderVersion, await debianRelease(), chain]);
  return createHash('sha256').update(key).digest('hex').slice(0, 16);
}

async function buildInto(
  dir: string,
  name: ImageName,
  below: CorpusImage | undefined,
  report: Report,
): Promise<void> {
  const work = `${dir}.building`;
  await rm(work, { recursive: true, force: true });
  const layoutDir = join(work, 'layout');
  report(`${name}: fetching the package lists`);
  const archive = await openArchive(join(work, 'archive'));
  const layout = new Layout(layoutDir, name, archive.epochSeconds);
  if (below === undefined) {
    report(`${name}: installing the base system`);
    const tarFile = join(work, 'base.tar');
    await bootstrap(archive, tarFile);
    await layout.createFromTar(tarFile);
  } else {
    await cp(below.layoutDir, layoutDir, { recursive: true });
    await addLayers(layout, join(work, 'bundle'), below, archive, report);
  }
  await layout.configure(definitions[name].config);
  report(`${name}: reading the layers back`);
  const layers = await summarizeLayers(layoutDir, below?.layers ?? []);
  const result = join(work, 'result');
  await mkdir(result);
  await writeFile(join(result, 'layers.json'), JSON.stringify(layers, undefined, 2));
  await rename(layoutDir, join(result, 'layout'));
  await rename(result, dir);
  await rm(work, { recursive: true });
}

async function addLayers(
  layout: Layout,
  bundle: string,
  below: CorpusImage,
  archive: DebianArchive,
  report: Report,
): Promise<void> {
  await layout.unpack(below.tag, bundle);
  const root = join(bundle, 'rootfs');
  for (const layer of definitions[layout.tag].layers) {
    if (layer.packages !== undefined) {
      report(`${layout.tag}: installing ${layer.packages.join(', ')}`);
      await installPackages(archive, root, layer.packages);
    }
    if (layer.script !== undefined) {
      report(`${layout.tag}: adding the application`);
      await runScript(root, layer.script);
    }
    await settle(archive, root);
    report(`${layout.tag}: packing the layer`);
    await layout.repack(bundle);
  }
  await layout.remove(below.tag);
}

/** umoci on one layout. Its times are the archive's, so that equal images are equal bytes. */
class Layout {
  readonly dir: string;
  readonly tag: ImageName;
  readonly #created: string;

  constructor(dir: string, tag: ImageName, epochSeconds: number) {
    this.dir = dir;
    this.tag = tag;
    this.#created = new Date(epochSeconds * 1000).toISOString();
  }

  async createFromTar(tarFile: string): Promise<void> {
    await umoci(['init', '--layout', this.dir]);
    await umoci(['new', ...this.#image()]);
    const history = `--history.created=${this.#created}`;
    await umoci(['raw', 'add-layer', ...this.#image(), history, tarFile]);
  }

  async unpack(tag: string, bundle: string): Promise<void> {
    await umoci(['unpack', '--image', `${this.dir}:${tag}`, bundle]);
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

  async remove(tag: string): Promise<void> {
    await umoci(['rm', '--image', `${this.dir}:${tag}`]);
  }

  #image(): string[] {
    return ['--image', `${this.dir}:${this.tag}`];
  }
}

async function umoci(args: readonly string[]): Promise<void> {
  await runChecked('umoci', args, { timeoutMs: umociTimeoutMs });
}
