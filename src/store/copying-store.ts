/** What a store offers besides ObjectStore: to copy an object without its bytes coming here. */
export interface CopyingStore {
  /**
   * Replaces the object of `to` by that of `from`, atomically and durably; false if there is none.
   * Faults and aborts as of ObjectStore.
   */
  copy(from: string, to: string, options?: { signal?: AbortSignal }): Promise<boolean>;
}
