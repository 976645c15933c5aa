/** The kernel's table of mounts: /proc/self/mountinfo, see proc_pid_mountinfo(5). */

import { readFile, realpath } from 'node:fs/promises';
import { ioError } from '../base/errors.ts';

export interface MountEntry {
  /** `MAJOR:MINOR` of the file system. */
  device: string;
  /** The folder or file of the file system that is mounted: `/` unless it is a bind mount. */
  root: string;
  mountPoint: string;
  /** Of this mount: `ro`, `nosuid`, … */
  options: string[];
  type: string;
  source: string;
}

/** In the order of the table: a mount comes after what it is mounted on. */
export async function listMounts(): Promise<MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'latin1'));
}

/** What is mounted at the folder and below it, in an order in which it can be unmounted. */
export async function mountsBelow(directory: string): Promise<MountEntry[]> {
  const mounts = await listMounts();
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  const isBelow = ({ mountPoint }: MountEntry): boolean =>
    mountPoint === directory || mountPoint.startsWith(prefix);
  return mounts.filter(isBelow).reverse();
}

/** A path as the table has it: absolute and without symlinks. `what`: see ioError. */
export async function realPath(path: string, what: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    throw ioError(what, error);
  }
}

/** `text` has one character a byte. Lines that are not of the known form are left out. */
export function parseMountTable(text: string): MountEntry[] {
  const mounts: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    // Optional fields stand before the dash, which no other field can be.
    const dash = fields.indexOf('-', 6);
    const [, , device, root, mountPoint, options] = fields;
    const [type, source] = dash < 0 ? [] : fields.slice(dash + 1);
    if (device === undefined || root === undefined || mountPoint === undefined) continue;
    if (options === undefined || type === undefined || source === undefined) continue;
    mounts.push({
      device,
      root: unescapeOctal(root),
      mountPoint: unescapeOctal(mountPoint),
      options: options.split(','),
      type,
      source: unescapeOctal(source),
    });
  }
  return mounts;
}

/** Spaces, tabs, newlines and backslashes are written as `\` and three octal digits. */
function unescapeOctal(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
