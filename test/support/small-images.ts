/**
 * Small images for tests of the whole program: one that runs (a static busybox), and one with
 * everything that a file system can hold and tools get wrong.
 */

import { readFileSync, rmSync } from 'node:fs';
import { type LayoutLayer, writeOciLayout } from './oci-layout.ts';
import type { TestHome } from './processes.ts';
import { Random } from './random.ts';
import { type LayerEntry, tarOf } from './tar-builder.ts';

const applets = ['cat', 'echo', 'env', 'id', 'ls', 'pwd', 'sh', 'sleep', 'test', 'touch', 'true'];

/** Half as many bytes again as the largest chunk, of noise: at least two chunks of its own. */
export const noise = new Random(7).bytes(1_500_000);

export const runnableEntries: readonly LayerEntry[] = [
  { path: 'bin/', type: 'directory' },
  { path: 'bin/busybox', content: readFileSync('/bin/busybox'), mode: 0o755 },
  ...applets.map(name => ({ path: `bin/${name}`, type: 'symlink' as const, target: 'busybox' })),
  { path: 'etc/', type: 'directory' },
  { path: 'etc/passwd', content: 'root:x:0:0::/root:/bin/sh\nweb:x:33:34:Web:/srv:/bin/sh\n' },
  { path: 'etc/group', content: 'root:x:0:\nweb:x:34:\nlogs:x:35:adm,web\nmedia:x:36:web\n' },
  { path: 'root/', type: 'directory', mode: 0o700 },
  { path: 'srv/', type: 'directory' },
  { path: 'srv/noise', content: noise },
  { path: 'srv/plain', content: 'not a program\n' },
  { path: 'tmp/', type: 'directory', mode: 0o1777 },
];

const longName = 'n'.repeat(200);
const capability = Buffer.from('0100000200000000000000000000000000000000', 'hex');

/** Names are strings of one character a byte. */
export const oddEntries: readonly LayerEntry[] = [
  { path: './', type: 'directory', mode: 0o751, uid: 3, gid: 4 },
  { path: 'caps', content: 'x', xattrs: { 'security.capability': capability } },
  { path: 'attributes/', type: 'directory', xattrs: { 'user.a': 'on a directory' } },
  { path: 'attributes/binary', content: '', xattrs: { 'user.b': Buffer.from([0, 255, 10, 61]) } },
  { path: 'first', content: 'linked', mtimeNanoseconds: 123_456_789 },
  // Tools differ on whose time counts where a link's header has another.
  { path: 'z-second', type: 'hard-link', target: 'first', mtimeNanoseconds: 123_456_789 },
  { path: 'a-third', type: 'hard-link', target: 'first', mtimeNanoseconds: 123_456_789 },
  { path: 'console', type: 'char', major: 5, minor: 1, mode: 0o600 },
  { path: 'disk0', type: 'block', major: 259, minor: 70_000 },
  { path: 'pipe', type: 'fifo', mode: 0o622 },
  { path: 'latin\xe9\xff', content: 'not UTF-8' },
  { path: 'utf\xc3\xa9', content: 'UTF-8' },
  { path: 'new\nline and space', content: 'odd' },
  { path: 'forbidden', content: 'mode 0', mode: 0 },
  { path: 'setuid', content: 'x', mode: 0o6755 },
  { path: 'ids', content: '', uid: 3_000_000_000, gid: 4_000_000_000 },
  { path: 'old', content: '', mtimeSeconds: -5, mtimeNanoseconds: 500_000_000 },
  { path: 'far', content: '', mtimeSeconds: 5_000_000_000 },
  { path: 'deep/', type: 'directory' },
  { path: `deep/${longName}/`, type: 'directory' },
  { path: `deep/${longName}/${longName}/`, type: 'directory' },
  { path: `deep/${longName}/${longName}/${longName}`, content: 'deep' },
  { path: 'link', type: 'symlink', target: '../outside/\xff' },
  { path: 'long-link', type: 'symlink', target: `${longName}/`.repeat(3) },
  { path: 'empty/', type: 'directory', mtimeNanoseconds: 1 },
  { path: 'large', content: noise },
];

export interface SmallImage {
  entries?: readonly LayerEntry[];
  /** The fields of `config` in the image's config. */
  config?: Record<string, unknown>;
  compression?: LayoutLayer['compression'];
}

/** Writes the image into the home's folder and returns its source for `push`. */
export function writeSmallImage(home: TestHome, name: string, image: SmallImage = {}): string {
  const { entries = runnableEntries, config = {}, compression = 'none' } = image;
  const dir = home.path(`layout-${name}`);
  rmSync(dir, { recursive: true, force: true });
  const defaults = { Cmd: ['/bin/sh'], Env: ['PATH=/bin'] };
  writeOciLayout(dir, {
    layers: [{ tar: tarOf(entries), compression }],
    config: { config: { ...defaults, ...config } },
    tag: 'latest',
  });
  return `oci:${dir}`;
}

export async function pushSmallImage(
  home: TestHome,
  name: string,
  image: SmallImage = {},
): Promise<void> {
  await home.runChecked(['push', '--quiet', writeSmallImage(home, name, image), name]);
}
