/** Holds docs/THREAT_MODEL.md: every test that it names exists, and every attack here is named in it. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '..', '..');

/** Items like "- `test/FILE.test.ts`: *title*; *title*", which may go on in the next lines. */
function namedTests(document: string): { file: string; title: string }[] {
  const items = document.matchAll(/^- `(test\/[^`]+\.test\.ts)`: ([^\n]*(?:\n {2}[^\n]*)*)/gm);
  return [...items].flatMap(([, file, titles]) => {
    const found = [...titles!.matchAll(/\*([^*]+)\*/g)];
    assert.ok(found.length > 0, `an item of ${file} names a test`);
    return found.map(([, title]) => ({ file: file!, title: title!.replace(/\s+/g, ' ') }));
  });
}

/** Titles as patterns, since some are made up of parts. */
function titlesIn(file: string): RegExp[] {
  const text = readFileSync(join(root, file), 'utf8');
  const calls = text.matchAll(/\btest\(\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|`([^`]*)`)/g);
  return [...calls].map(([, single, double, template]) => {
    const title = template ?? (single ?? double)!.replace(/\\(.)/g, '$1');
    const parts = title.split(template === undefined ? /(?!)/ : /\$\{[^}]*\}/);
    return new RegExp(`^${parts.map(part => RegExp.escape(part)).join('.+')}$`);
  });
}

const document = readFileSync(join(root, 'docs', 'THREAT_MODEL.md'), 'utf8');

test('every test that the threat model names exists', () => {
  const named = namedTests(document);
  assert.ok(named.length > 50, 'they were found');
  for (const { file, title } of named) {
    assert.ok(existsSync(join(root, file)), `there is ${file}`);
    assert.ok(
      titlesIn(file).some(pattern => pattern.test(title)),
      `${file} has "${title}"`,
    );
  }
});

test('every attack of these tests is named in the threat model', () => {
  const named = namedTests(document);
  for (const name of readdirSync(import.meta.dirname)) {
    if (!name.endsWith('.test.ts') || name === 'document.test.ts') continue;
    const file = `test/attack/${name}`;
    const titles = named.filter(test => test.file === file).map(({ title }) => title);
    for (const pattern of titlesIn(file)) {
      assert.ok(
        titles.some(title => pattern.test(title)),
        `the document names ${pattern} of ${file}`,
      );
    }
  }
});
