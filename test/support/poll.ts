/** Waiting in tests for what another process does. */

import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when the condition holds; throws what it waited for after the time. */
export async function waitUntil(
  what: string,
  condition: () => boolean | Promise<boolean>,
  { timeoutMs = 30_000 }: { timeoutMs?: number } = {},
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`Waited ${timeoutMs} ms until ${what}`);
    await sleep(20);
  }
}
