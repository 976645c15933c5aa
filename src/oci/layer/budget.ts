/** What one image may cost in memory while it is flattened, contents aside. */

import { symlinkStepsMax, treeEntriesMax, treeMetadataMaxBytes } from '../../base/limits.ts';
import { EntryFault } from './fault.ts';

/** Each method throws EntryFault once its limit is passed. */
export class Budget {
  #entries = 0;
  #claims = 0;
  #metadataBytes = 0;
  #symlinkSteps = 0;

  /** As it is now; later changes of either leave the other alone. */
  copy(): Budget {
    const copy = new Budget();
    copy.restore(this);
    return copy;
  }

  restore(from: Budget): void {
    this.#entries = from.#entries;
    this.#claims = from.#claims;
    this.#metadataBytes = from.#metadataBytes;
    this.#symlinkSteps = from.#symlinkSteps;
  }

  addEntry(): void {
    if (++this.#entries > treeEntriesMax)
      throw new EntryFault('LIMIT', `the image has more than ${treeEntriesMax} entries`);
  }

  /** A path component that hides something in the layers below. */
  addClaim(): void {
    if (++this.#claims > treeEntriesMax)
      throw new EntryFault('LIMIT', `the image has more than ${treeEntriesMax} entries`);
  }

  addMetadata(bytes: number): void {
    this.#metadataBytes += bytes;
    if (this.#metadataBytes > treeMetadataMaxBytes)
      throw new EntryFault(
        'LIMIT',
        `the image's names, xattrs and sparse maps take more than ${treeMetadataMaxBytes} bytes`,
      );
  }

  addSymlinkSteps(components: number): void {
    this.#symlinkSteps += components;
    if (this.#symlinkSteps > symlinkStepsMax)
      throw new EntryFault('LIMIT', 'paths of the image lead through too many symlinks');
  }
}
