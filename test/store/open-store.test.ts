import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { openStore } from '../../src/store/open-store.ts';
import { isFault } from '../contract/object-store.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

test('a path, relative or not, and a file URL open the same folder', async context => {
  const folder = join(temporaryFolder(context), 'a store');
  for (const url of [folder, relative(process.cwd(), folder), pathToFileURL(folder).href]) {
    const store = await openStore(url);
    assert.equal(store.location, folder);
  }
  assert.ok(!existsSync(folder), 'opening makes nothing');
});

test('a bucket is opened without asking for it, at the endpoint of the URL', async () => {
  const url = 's3://bucket/a/prefix?endpoint=http://127.0.0.1:9&region=eu-1';
  assert.equal((await openStore(url)).location, url);
  assert.equal((await openStore(url.replace('s3:', 'S3:'))).location, url);
});

test('what is no store is refused, with what it is and what to do', async context => {
  const file = join(temporaryFolder(context), 'file');
  writeFileSync(file, 'x');
  const refused = [
    ['s3://', 'USAGE'],
    ['s3://key:secret@bucket/x', 'USAGE'],
    ['s3://bucket/x?endpoint=http://key:secret@host', 'USAGE'],
    ['https://user:secret@host/x', 'USAGE'],
    ['docker://x', 'USAGE'],
    ['file:relative', 'USAGE'],
    ['file://otherhost/srv', 'USAGE'],
    ['file:///srv/x%2Fy', 'USAGE'],
    ['file:///srv?x=1', 'USAGE'],
    ['', 'USAGE'],
    ['a\0b', 'USAGE'],
    [file, 'USAGE'],
    [join(file, 'below'), 'IO'],
  ] as const;
  for (const [url, code] of refused) {
    await assert.rejects(openStore(url), (error: Error & { hint?: string }) => {
      assert.ok(!error.message.includes('secret'));
      assert.ok(error.hint !== undefined);
      return isFault(code)(error);
    });
  }
});
