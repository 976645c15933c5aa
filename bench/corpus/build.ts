/**
 * Builds the corpus' images with mmdebstrap and umoci, once per definition and Debian release. An
 * image's folder appears by a rename when it is whole; builders of the same image wait for each
 * other. Layers of the image below are the same blobs, and the same files.
 */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Archives } from './archives.ts';
import {
  bootstrap,
  type DebianArchive,
  debianRelease,
  installPackages,
  runScript,
  settle,
} from './debian.ts';
import type { ArchiveDefinition, LayerDefinition } from './definition.ts';
import { type VersionName, versionDefinition } from './definitions.ts';
import { type LayerSummary, Layout, summarizeLayers } from './layout.ts';
import { lockFile } from './lock.ts';
import { installLocked, lockText } from './npm.ts';

/** Part of every image's key: raised when images come out otherwise for the same definition. */
const builderVersion = 1;

export interface CorpusImage {
  name: VersionName;
  /** An OCI image layout with this one image. */
  layoutDir: string;
  /** The image's tag in it: its name, with a hyphen before the version. */
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

/** The image from the cache, built first if it is not there. Needs root, as containers do. */
export async function buildImage(
  name: VersionName,
  cacheDir: string = defaultCacheDir(),
  report: Report = () => {},
): Promise<CorpusImage> {
  await using builder = new CorpusBuilder(cacheDir, report);
  return await builder.build(name);
}

/** Builds one image after the other from one state of the archive. */
export class CorpusBuilder implements AsyncDisposable {
  readonly #cacheDir: string;
  readonly #report: Report;
  readonly #archives: Archives;

  constructor(cacheDir: string, report: Report) {
    this.#cacheDir = cacheDir;
    this.#report = report;
    this.#archives = new Archives(cacheDir);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#archives[Symbol.asyncDispose]();
  }

  /** The image from the cache, built first if it is not there. */
  async build(name: VersionName): Promise<CorpusImage> {
    const tag = name.replace(':', '-');
    const dir = join(this.#cacheDir, `${tag}-${await imageKey(name)}`);
    if (!existsSync(dir)) {
      const { from } = versionDefinition(name);
      const below = from && (await this.build(from));
      await mkdir(this.#cacheDir, { recursive: true });
      await using _ = await lockFile(`${dir}.lock`);
      if (!existsSync(dir)) await this.#buildInto(dir, name, tag, below);
    }
    const layers = JSON.parse(readFileSync(join(dir, 'layers.json'), 'utf8')) as LayerSummary[];
    const layoutDir = join(dir, 'layout');
    return { name, layoutDir, tag, source: `oci:${layoutDir}:${tag}`, layers };
  }

  async #buildInto(
    dir: string,
    name: VersionName,
    tag: string,
    below: CorpusImage | undefined,
  ): Promise<void> {
    const { layers, config, withoutTop = 0 } = versionDefinition(name);
    const work = `${dir}.building`;
    await rm(work, { recursive: true, force: true });
    await mkdir(work);
    this.#report(`${name}: looking at the archive`);
    const archive = await this.#archives.open(archiveOf(name));
    const layout = new Layout(join(work, 'layout'), tag, archive.epochSeconds);
    if (below === undefined) {
      this.#report(`${name}: installing the base system`);
      const tarFile = join(work, 'base.tar');
      await bootstrap(archive, tarFile);
      await layout.createFromTar(tarFile);
    } else {
      await layout.createFrom(below, withoutTop);
      const bundle = join(work, 'bundle');
      await layout.unpack(bundle);
      for (const layer of layers) {
        await this.#addLayer(name, layer, join(bundle, 'rootfs'), archive);
        this.#report(`${name}: packing the layer`);
        await layout.repack(bundle);
      }
    }
    await layout.configure(config);
    this.#report(`${name}: reading the layers back`);
    const summaries = await summarizeLayers(layout.dir, below?.layers ?? []);
    const result = join(work, 'result');
    await mkdir(result);
    await writeFile(join(result, 'layers.json'), JSON.stringify(summaries, undefined, 2));
    await rename(layout.dir, join(result, 'layout'));
    await rename(result, dir);
    await rm(work, { recursive: true });
  }

  async #addLayer(
    name: VersionName,
    { packages, npm, script }: LayerDefinition,
    root: string,
    archive: DebianArchive,
  ): Promise<void> {
    if (packages !== undefined) {
      this.#report(`${name}: installing ${packages.join(', ')}`);
      await installPackages(archive, root, packages);
    }
    if (npm !== undefined) {
      this.#report(`${name}: installing what npm/${npm} names`);
      await installLocked(npm, join(root, 'app'));
    }
    if (script !== undefined) {
      this.#report(`${name}: adding the application`);
      await runScript(root, script);
    }
    await settle(archive, root);
  }
}

/** The version and what lies below it, down to the base. */
function chainOf(name: VersionName) {
  const definition = versionDefinition(name);
  const below: ReturnType<typeof versionDefinition>[] =
    definition.from === undefined ? [] : chainOf(definition.from);
  return [definition, ...below];
}

function archiveOf(name: VersionName): ArchiveDefinition {
  return chainOf(name).at(-1)?.archive ?? {};
}

/** Of all that goes into the image, but for the day's state of the archive. */
async function imageKey(name: VersionName): Promise<string> {
  const chain = chainOf(name).map(({ from, layers, config, withoutTop, archive }) => {
    const locks = layers.flatMap(({ npm }) => (npm === undefined ? [] : [lockText(npm)]));
    // Undefined fields leave no trace in the key.
    return {
      from,
      layers,
      config,
      withoutTop,
      archive,
      locks: locks.length > 0 ? locks : undefined,
    };
  });
  const key = JSON.stringify([builderVersion, await debianRelease(), chain]);
  return createHash('sha256').update(key).digest('hex').slice(0, 16);
}
