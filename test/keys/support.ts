/** What tests of the keys room share: a keys folder that is not there yet, and errors told apart. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describeError, type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import type { KeySource } from '../../src/keys/key-source.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

export const now = (): Date => new Date('2026-01-02T03:04:05.678Z');

export interface TestKeys extends KeySource {
  now: () => Date;
  path(...parts: string[]): string;
}

/** The folder goes when the test ends. */
export function testKeys(
  context: { after(fn: () => Promise<void>): void },
  env: KeySource['env'] = {},
): TestKeys {
  const directory = join(temporaryFolder(context), 'home', 'keys');
  return { directory, env, now, path: (...parts) => join(directory, ...parts) };
}

export function rejectsWith(work: Promise<unknown>, code: ErrorCode, text: RegExp): Promise<void> {
  return assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(describeError(error), text);
    return true;
  });
}

/** The SDK looks at the environment of its process, which is a test file's alone. */
export function useEnvironment(added: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(process.env)) {
    if (name.startsWith('AWS_')) delete process.env[name];
  }
  Object.assign(process.env, added);
}
