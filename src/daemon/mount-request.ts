/** Checks what the control socket is asked to mount. */

import { isAbsolute } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import { pathLengthMaxBytes } from '../base/limits.ts';
import type { MountRequest } from './protocol.ts';

export function checkMountRequest(document: unknown): MountRequest {
  if (typeof document !== 'object' || document === null) throw wrong('it is not an object');
  const fields = document as Record<string, unknown>;
  const { name, store, dir, as, rw, lease, keyId, containerRuntime } = fields;
  if (typeof name !== 'string') throw wrong('name is not a text');
  if (typeof store !== 'string') throw wrong('store is not a text');
  if (as !== 'erofs' && as !== 'disk') throw wrong('as is neither erofs nor disk');
  if (typeof rw !== 'boolean' || typeof lease !== 'boolean') throw wrong('a flag is not one');
  const request: MountRequest = { name, store, as, rw, lease };
  if (keyId !== undefined) {
    if (typeof keyId !== 'string') throw wrong('keyId is not a text');
    request.keyId = keyId;
  }
  if (dir !== undefined) request.dir = absolutePath('dir', dir);
  if (containerRuntime !== undefined) {
    request.containerRuntime = absolutePath('containerRuntime', containerRuntime);
  }
  return request;
}

function absolutePath(field: string, value: unknown): string {
  const sound =
    typeof value === 'string' &&
    isAbsolute(value) &&
    !value.includes('\0') &&
    Buffer.byteLength(value) <= pathLengthMaxBytes;
  if (!sound) throw wrong(`${field} is not an absolute path`);
  return value;
}

function wrong(state: string): ImgstoreError {
  return new ImgstoreError('USAGE', `Cannot read the mount request: ${state}`);
}
