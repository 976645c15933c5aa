/** Holds the table of docs/architecture.md: imports between the rooms of src/ go one way. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { test } from 'node:test';

const source = join(import.meta.dirname, '..', 'src');
const document = join(import.meta.dirname, '..', 'docs', 'architecture.md');

function allowedImports(): Map<string, Set<string> | 'everything'> {
  const table = new Map<string, Set<string> | 'everything'>();
  for (const line of readFileSync(document, 'utf8').split('\n')) {
    const row = /^\| `([a-z]+)` \|[^|]*\|([^|]*)\|$/.exec(line);
    if (row === null) continue;
    const names = row[2]!.trim();
    const rooms = names === '' ? [] : names.split(' ');
    table.set(
      row[1]!,
      names === 'everything' ? 'everything' : new Set([row[1]!, 'base', ...rooms]),
    );
  }
  return table;
}

const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(f =>
  /\.(ts|mjs)$/.test(f),
);

function importsOf(file: string): string[] {
  const text = readFileSync(join(source, file), 'utf8');
  const pattern = /(?:from|import\(|import)\s*['"](\.[^'"]+)['"]/g;
  return [...text.matchAll(pattern)].map(match =>
    relative(source, join(source, dirname(file), match[1]!)),
  );
}

test('imports between rooms follow the table of docs/architecture.md', () => {
  const table = allowedImports();
  assert.ok(table.size > 10, 'the table was found');
  const wrong: string[] = [];
  for (const file of files) {
    const [room, ...rest] = file.split(sep);
    if (rest.length === 0) continue; // main.ts and the launcher join everything
    const allowed = table.get(room!);
    assert.ok(allowed !== undefined, `src/${room} has no row in docs/architecture.md`);
    for (const target of importsOf(file)) {
      const to = target.split(sep)[0]!;
      if (allowed !== 'everything' && !allowed.has(to)) wrong.push(`src/${file} → src/${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('no file imports itself through others', () => {
  const state = new Map<string, 'open' | 'done'>();
  const visit = (file: string, chain: string[]): void => {
    if (state.get(file) === 'done') return;
    assert.notEqual(state.get(file), 'open', `cycle: ${[...chain, file].join(' → ')}`);
    state.set(file, 'open');
    const text = readFileSync(join(source, file), 'utf8');
    // Types are erased: only imports that exist at run time can form a cycle.
    const pattern = /^(?:import|export) (?!type\b)[^;]*?from '(\.[^']+)'/gms;
    for (const match of text.matchAll(pattern)) {
      visit(relative(source, join(source, dirname(file), match[1]!)), [...chain, file]);
    }
    state.set(file, 'done');
  };
  for (const file of files) visit(file, []);
});
