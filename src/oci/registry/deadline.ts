/** An end for what is small and should be there soon: who drips bytes is not waited for. */

import { TransientFault } from './faults.ts';

const deadlineMs = 120_000;

/** `work` gets a signal that also ends it at the deadline, which is a TransientFault. */
export async function withDeadline<V>(
  { what, host, signal }: { what: string; host: string; signal: AbortSignal },
  work: (signal: AbortSignal) => Promise<V>,
): Promise<V> {
  const late = AbortSignal.timeout(deadlineMs);
  try {
    return await work(AbortSignal.any([signal, late]));
  } catch (error) {
    if (late.aborted && error === late.reason) {
      throw new TransientFault(`${what}: ${host} is not done after ${deadlineMs / 1000} s`);
    }
    throw error;
  }
}
