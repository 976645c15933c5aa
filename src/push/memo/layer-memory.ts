/**
 * Where memos are kept between pushes: sealed bytes by name. It may forget anything at any time, and
 * give back other bytes than it was given: what is made of a memo is checked.
 */
export interface LayerMemory {
  /** False as well if nobody can tell. */
  has(name: string): Promise<boolean>;
  /** Undefined if it is not there or cannot be read. The buffer is the caller's own. */
  read(name: string): Promise<Buffer | undefined>;
  /** Replaces what is there. Rejects with ImgstoreError IO. */
  write(name: string, pieces: readonly Buffer[]): Promise<void>;
}
