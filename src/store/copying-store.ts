/** What a store offers besides ObjectStore: to copy an object without its bytes coming here. */
export interface CopyingStore {
  /**
   * The object of `to` is that of `from` afterwards, atomically and durably; false if there is none to
   * copy. With `ifAbsent`, what is at `to` already is left as it is, which is true as well; a store
   * may look first and then copy. Faults and aborts as of ObjectStore.
   */
  copy(from: string, to: string, options?: CopyOptions): Promise<boolean>;
}

export interface CopyOptions {
  ifAbsent?: boolean;
  signal?: AbortSignal;
}
