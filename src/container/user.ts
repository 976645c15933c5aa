/**
 * Resolves an image config's User (`user`, `uid`, `user:group`, `uid:gid`) against the image's own
 * /etc/passwd and /etc/group. Source: OCI image spec, config.md, "User".
 */

import { ImgstoreError } from '../base/errors.ts';
import { KiB } from '../base/limits.ts';
import { readRootFile } from './root-file.ts';

const accountFileMaxBytes = 1024 * KiB;
const idMax = 2 ** 32 - 2;

export interface ContainerUser {
  uid: number;
  gid: number;
  /**
   * The gid itself is one of them: otherwise a set-group-id program takes a process out of its own
   * group, and with that into what is forbidden to the group (CVE-2022-36109).
   */
  additionalGids: readonly number[];
  /** For HOME; undefined if passwd has no such user. */
  home: string | undefined;
}

interface PasswdEntry {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

interface GroupEntry {
  name: string;
  gid: number;
  members: readonly string[];
}

export async function resolveUser(root: string, user: string): Promise<ContainerUser> {
  const passwd = parsePasswd((await readRootFile(root, 'etc/passwd', accountFileMaxBytes)) ?? '');
  const group = parseGroup((await readRootFile(root, 'etc/group', accountFileMaxBytes)) ?? '');
  const [userPart = '', groupPart] = (user === '' ? '0' : user).split(':', 2);
  const entry =
    passwd.find(e => e.name === userPart) ?? passwd.find(e => e.uid === numericId(userPart));
  const uid = entry?.uid ?? numericId(userPart);
  if (uid === undefined) throw unknown('user', userPart, 'passwd');
  if (groupPart !== undefined && groupPart !== '') {
    const gid = group.find(g => g.name === groupPart)?.gid ?? numericId(groupPart);
    if (gid === undefined) throw unknown('group', groupPart, 'group');
    return { uid, gid, additionalGids: [gid], home: entry?.home };
  }
  const gid = entry?.gid ?? 0;
  const others =
    entry === undefined
      ? []
      : group.filter(g => g.gid !== gid && g.members.includes(entry.name)).map(g => g.gid);
  return { uid, gid, additionalGids: [gid, ...others], home: entry?.home };
}

function numericId(text: string): number | undefined {
  if (!/^[0-9]{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= idMax ? id : undefined;
}

function parsePasswd(text: string): PasswdEntry[] {
  return text.split('\n').flatMap(line => {
    const [name, , uidText, gidText, , home] = line.split(':');
    const uid = numericId(uidText ?? '');
    const gid = numericId(gidText ?? '');
    if (name === undefined || name === '' || uid === undefined || gid === undefined) return [];
    return [{ name, uid, gid, home: home === undefined || home === '' ? '/' : home }];
  });
}

function parseGroup(text: string): GroupEntry[] {
  return text.split('\n').flatMap(line => {
    const [name, , gidText, members] = line.split(':');
    const gid = numericId(gidText ?? '');
    if (name === undefined || name === '' || gid === undefined) return [];
    return [{ name, gid, members: (members ?? '').split(',').filter(m => m !== '') }];
  });
}

function unknown(what: string, name: string, file: string): ImgstoreError {
  return new ImgstoreError(
    'NOT_FOUND',
    `Cannot run as ${what} ${JSON.stringify(name)}: the image's /etc/${file} does not have it`,
    { hint: 'Use a numeric id in the image config, or add the account to the image.' },
  );
}
