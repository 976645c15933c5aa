/** From what a key file holds to the secret. */

import { assert } from '../base/assert.ts';
import { isWrapped, type KeyFile, type KeyKind, type Secrets } from './key-file.ts';

export class SecretOpener {
  async open<K extends KeyKind>(file: KeyFile<K>, _path: string): Promise<Secrets[K]> {
    assert(!isWrapped(file.held), 'no file is wrapped yet');
    return file.held as Secrets[K];
  }
}
