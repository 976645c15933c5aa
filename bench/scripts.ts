/** The benches of single parts, which are programs of their own and print what they measure. */

import { join } from 'node:path';
import { measured, type Workload } from './harness.ts';

interface Script {
  name: string;
  summary: string;
  file: string;
  args: readonly string[];
  smallArgs: readonly string[];
}

function scriptWorkload({ name, summary, file, args, smallArgs }: Script): Workload {
  return {
    name,
    summary,
    async run({ small, report }) {
      report(name);
      const given = small ? smallArgs : args;
      const { stdout } = await measured([
        process.execPath,
        join(import.meta.dirname, file),
        ...given,
      ]);
      const command = ['node', `bench/${file}`, ...given].join(' ');
      return { rows: [], commands: [command], notes: stdout.trimEnd().split('\n') };
    },
  };
}

export const sparseFileWorkload = scriptWorkload({
  name: 'sparse-file',
  summary: 'the FUSE server alone, and EROFS on it',
  file: 'sparse-file.ts',
  args: [],
  smallArgs: ['16', '500'],
});

export const sealWorkload = scriptWorkload({
  name: 'seal',
  summary: 'chunking, sealing and opening on one core, zstd levels, chunk sizes',
  file: 'seal.ts',
  args: [],
  smallArgs: [join(import.meta.dirname, '..', 'src'), '1'],
});
