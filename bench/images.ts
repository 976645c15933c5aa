/**
 * The images that the workloads run: from the corpus, and a shell with nothing around it where only
 * the workload itself is tried.
 */

import { readFileSync } from 'node:fs';
import { writeOciLayout } from '../test/support/oci-layout.ts';
import { runChecked } from '../test/support/processes.ts';
import { tarOf } from '../test/support/tar-builder.ts';
import { buildImage } from './corpus/build.ts';
import type { Context } from './harness.ts';
import type { BenchHome } from './home.ts';

export interface Program {
  image: 'python' | 'nginx' | 'shell';
  /** What of it `imgstore run IMAGE --` and a chroot start. */
  args: readonly string[];
  command: readonly string[];
}

export const python: Program = {
  image: 'python',
  args: ['-c', 'print(1)'],
  command: ['python3', '-c', 'print(1)'],
};

export const nginx: Program = { image: 'nginx', args: ['-t'], command: ['nginx', '-V'] };

export const shell: Program = {
  image: 'shell',
  args: ['/bin/sh', '-c', 'echo 1'],
  command: ['/bin/sh', '-c', 'echo 1'],
};

/** The image's source for imgstore, built first if need be. */
export async function imageSource(
  { image }: Program,
  home: BenchHome,
  { report }: Context,
): Promise<string> {
  if (image === 'shell') return shellImage(home.path('shell'));
  return (await buildImage(image, undefined, report)).source;
}

/** This machine's /bin/sh and the libraries that it loads. */
async function shellImage(dir: string): Promise<string> {
  const { stdout } = await runChecked('ldd', ['/bin/sh']);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
  const files = ['/bin/sh', ...libraries].map(path => ({
    path: path.slice(1),
    content: readFileSync(path),
    mode: 0o755,
  }));
  const layers = [{ tar: tarOf(files), compression: 'zstd' as const }];
  writeOciLayout(dir, { layers, tag: 'shell', config: { config: { Cmd: ['/bin/sh'] } } });
  return `oci:${dir}:shell`;
}
