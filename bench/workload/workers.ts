/**
 * Workers: daemons with homes of their own on this one machine, which have one owner's keys, one store and
 * one shared cache. All of it is removed when they are closed, mounts and daemons included.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { processCpuMs } from '../harness.ts';
import { BenchHome } from '../home.ts';
import { ownPath, readPaths, type StartedImage } from './images.ts';
import { fleetText, type Machines, storeEnvironment } from './machines.ts';

export interface Mounted {
  dir: string;
  image: StartedImage;
  tookMs: number;
}

export class Workers implements AsyncDisposable {
  readonly homes: readonly BenchHome[];
  readonly images: readonly StartedImage[];
  readonly #machines: Machines;
  readonly #stack: AsyncDisposableStack;
  #mounts = 0;

  private constructor(
    homes: readonly BenchHome[],
    images: readonly StartedImage[],
    machines: Machines,
    stack: AsyncDisposableStack,
  ) {
    this.homes = homes;
    this.images = images;
    this.#machines = machines;
    this.#stack = stack;
  }

  /** The images are pushed by the first of them. */
  static async open(
    count: number,
    machines: Machines,
    makeImages: (dir: string) => StartedImage[],
  ): Promise<Workers> {
    await using stack = new AsyncDisposableStack();
    const homes = Array.from({ length: count }, () => stack.use(new BenchHome()));
    const [first, ...others] = homes as [BenchHome, ...BenchHome[]];
    const { near, far } = machines.newStore();
    const images = makeImages(first.path('images'));
    first.useStore(near, storeEnvironment);
    for (const { source, name } of images) await first.push(source, name);
    for (const { keysFolder } of others) cpSync(first.keysFolder, keysFolder, { recursive: true });
    const environment = { ...storeEnvironment, IMGSTORE_FLEET: fleetText(machines.nodes) };
    for (const home of homes) home.useStore(far, environment);
    return new Workers(homes, images, machines, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** Nothing is cached anywhere: on no worker, and not in the fleet. */
  async makeCold(): Promise<void> {
    for (const home of this.homes) await home.json(['daemon', 'stop', '--force']);
    await this.#machines.restartNodes();
    for (const home of this.homes) await home.coldDaemon();
    await this.#machines.origin.take();
  }

  /** `count` mounts at once: the images in turn on the first worker, then on the next. */
  async mount(count: number, homes = this.homes): Promise<Mounted[]> {
    const { images } = this;
    const each = count / homes.length;
    const planned = Array.from({ length: count }, (_, at) => {
      const home = homes[Math.floor(at / each)]!;
      const dir = home.makeFolder(`mnt-${this.#mounts++}`);
      return { home, dir, image: images[at % images.length]! };
    });
    return Promise.all(
      planned.map(async ({ home, dir, image }) => {
        const tookMs = await timeOf(() => home.mount(image.name, dir));
        return { dir, image, tookMs };
      }),
    );
  }

  /** Of the daemons, so far. */
  async cpuMs(homes = this.homes): Promise<number> {
    const pids = await Promise.all(homes.map(home => home.daemonPid()));
    return pids.reduce((sum, pid) => sum + processCpuMs(pid), 0);
  }
}

/** The program of each at once; how long each took, in their order. */
export async function runPrograms(mounts: readonly Mounted[]): Promise<number[]> {
  const times = await Promise.all(mounts.map(({ dir }) => timeOf(() => readFiles(dir, readPaths))));
  for (const { dir, image } of mounts) {
    if (readFileSync(join(dir, ownPath)).equals(image.own)) continue;
    throw new Error(`${image.name} has other bytes than were pushed`);
  }
  return times;
}

export async function readFiles(dir: string, paths: readonly string[]): Promise<void> {
  const status = await cat(dir, paths);
  if (status !== 0) throw new Error(`cat in ${dir} ended with ${status}`);
}

/** Reads as a program does, one file after the other; the exit status. */
export async function cat(dir: string, paths: readonly string[]): Promise<number | null> {
  const child = spawn('cat', paths, { cwd: dir, stdio: 'ignore' });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status;
}

async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const beganMs = performance.now();
  await work();
  return performance.now() - beganMs;
}
