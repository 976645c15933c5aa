/** Extended attributes by the system calls, since Node has none: all names, all namespaces. */

import koffi from 'koffi';
import { type ByteString, byteString } from '../../src/base/byte-string.ts';
import { xattrsPerInodeMaxBytes, xattrValueMaxBytes } from '../../src/base/limits.ts';

type SizedCall = (path: Buffer, ...rest: (Buffer | number)[]) => number;

export class XattrReader {
  readonly #list: SizedCall;
  readonly #get: SizedCall;
  // As large as Linux lets either become, so that one call is enough.
  readonly #names = Buffer.alloc(xattrsPerInodeMaxBytes);
  readonly #value = Buffer.alloc(xattrValueMaxBytes + 1);

  constructor() {
    const libc = koffi.load('libc.so.6');
    this.#list = libc.func('intptr_t llistxattr(void *path, void *list, size_t size)');
    this.#get = libc.func('intptr_t lgetxattr(void *path, void *name, void *value, size_t size)');
  }

  /** Of the path itself, not of a symlink's target; `path` ends with a NUL. */
  read(path: Buffer): Map<ByteString, Buffer> {
    const found = new Map<ByteString, Buffer>();
    const length = this.#list(path, this.#names, this.#names.length);
    if (length < 0) {
      // A file system without xattrs has none.
      if (koffi.errno() === koffi.os.errno['EOPNOTSUPP']) return found;
      throw new Error(`llistxattr ${path}: errno ${koffi.errno()}`);
    }
    for (let start = 0; start < length; ) {
      const end = this.#names.indexOf(0, start) + 1;
      const name = this.#names.subarray(start, end);
      const size = this.#get(path, name, this.#value, this.#value.length);
      if (size < 0) throw new Error(`lgetxattr ${path} ${name}: errno ${koffi.errno()}`);
      found.set(byteString(name.subarray(0, -1)), Buffer.from(this.#value.subarray(0, size)));
      start = end;
    }
    return found;
  }
}
