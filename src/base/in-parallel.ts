/** Work on many items, a bounded number and amount of them at a time. */

export interface ParallelOptions<V> {
  /** Items under way at once. */
  atOnce: number;
  /** Bytes that the items under way may take together; one that takes more goes alone. */
  bytesMax: number;
  /** What an item takes while it is under way. */
  bytesOf: (item: V) => number;
  signal?: AbortSignal | undefined;
}

/**
 * Resolves when the work on every item has. The first failure, of the work or of the items, ends it:
 * no item is begun any more, what is under way is aborted by its signal and waited for, and the
 * failure is thrown; so is the signal's reason.
 */
export async function inParallel<V>(
  items: Iterable<V> | AsyncIterable<V>,
  { atOnce, bytesMax, bytesOf, signal }: ParallelOptions<V>,
  work: (item: V, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failing = new AbortController();
  const aborting =
    signal === undefined ? failing.signal : AbortSignal.any([signal, failing.signal]);
  const running = new Set<Promise<void>>();
  let runningBytes = 0;
  let failure: { error: unknown } | undefined;
  let wake = () => {};
  const fail = (error: unknown) => {
    failure ??= { error };
    failing.abort(error);
  };
  const start = (item: V, sizeBytes: number) => {
    runningBytes += sizeBytes;
    const done = work(item, aborting)
      .catch(fail)
      .finally(() => {
        running.delete(done);
        runningBytes -= sizeBytes;
        wake();
      });
    running.add(done);
  };
  try {
    for await (const item of items) {
      const sizeBytes = bytesOf(item);
      const isFull = () => running.size >= atOnce || runningBytes + sizeBytes > bytesMax;
      while (running.size > 0 && isFull()) {
        await new Promise<void>(resolve => {
          wake = resolve;
        });
      }
      aborting.throwIfAborted();
      start(item, sizeBytes);
    }
  } catch (error) {
    fail(error);
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure.error;
}
