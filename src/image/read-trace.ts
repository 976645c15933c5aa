/**
 * What is told to whoever follows single reads, where there is one: the daemon makes spans of it.
 * Only reads that wait for chunks are told of, so that those from memory stay as cheap as they are.
 * Nothing here throws.
 */

/** A read begins to wait; undefined if it is not to be followed. */
export type TraceRead = (offsetBytes: number, lengthBytes: number) => ReadTrace | undefined;

export interface ReadTrace {
  /** It waits for a chunk. */
  chunk(sealedSizeBytes: number): ChunkTrace;
  /** Its last call; `error` if the read failed. */
  end(error?: unknown): void;
}

export interface ChunkTrace {
  end(end: LookupEnd): void;
}

export interface LookupEnd {
  /** That had the chunk; undefined if none had, or it was not asked for to the end. */
  tier: string | undefined;
  /** The chunk was on its way already. */
  joined: boolean;
  error?: unknown;
}
