/** What a writer of contents tells of each, so that it can be done again without the bytes. */

export interface ContentJournal {
  inline(bytes: Uint8Array): void;
  /** Packed, or equal to one that is somewhere already. */
  small(digest: Buffer, options: { isPacked: boolean }): void;
  /** Its chunks, whether or not it is equal to one that is somewhere already. */
  large(identity: string, pieces: readonly JournalPiece[]): void;
  /** The next pack, in the order of the files in them, is this chunk. */
  pack(chunk: { key: Buffer; plainSizeBytes: number }): void;
}

export interface JournalPiece {
  fileOffsetBytes: number;
  lengthBytes: number;
  key: Buffer;
  plainSizeBytes: number;
}
