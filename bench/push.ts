/**
 * `imgstore push` from the start of the command to its end: all of the image new to an empty store;
 * the same image under another name, so that every chunk is known; and the same name again. Rates
 * are of the image's file contents. The store is the default one, a folder, with every sync it does.
 */

import { MiB } from '../src/base/limits.ts';
import { buildImage } from './corpus/build.ts';
import { type Context, interleaved, type Row, ratioOf, row, type Workload } from './harness.ts';
import { BenchHome, type PushData } from './home.ts';
import { median } from './numbers.ts';
import { writeSyntheticImage } from './synthetic.ts';

interface Push extends PushData {
  wallMs: number;
  cpuMs: number;
  peakBytes: number;
  othersShare: number;
}

const peakMaxMiB = 400;

export const workload: Workload = {
  name: 'push',
  summary: 'convert and store an image: all new, all known, unchanged; peak memory',

  async run(context) {
    await using home = new BenchHome();
    const source = context.small
      ? writeSyntheticImage(home.path('image'), 'small', 8 * MiB)
      : (await buildImage('python', undefined, context.report)).source;
    const { rows, others } = await benchSpeed(home, source, context);
    rows.push(await benchMemory(home, context));
    return {
      rows,
      commands: [
        'imgstore push oci:python/layout:python hello     # all new',
        'imgstore push oci:python/layout:python other     # all known',
        'imgstore push oci:python/layout:python hello     # unchanged',
        'imgstore push oci:large/layout:large large       # peak memory',
      ],
      notes: [`Other work took ${(others * 100).toFixed(0)} % of the machine meanwhile (median).`],
    };
  },
};

async function push(home: BenchHome, source: string, name: string): Promise<Push> {
  const args = ['push', '--json', source, name];
  const { stdout, ...measures } = await home.measure(args, { pollMemory: true });
  return { ...(JSON.parse(stdout) as PushData), ...measures };
}

async function benchSpeed(home: BenchHome, source: string, context: Context) {
  const peaks: number[] = [];
  const others: number[] = [];
  const pushed = async (name: string, expected: 'new' | 'known' | 'unchanged') => {
    const result = await push(home, source, name);
    const { outcome, newChunks, chunks, contentBytes, wallMs, cpuMs, peakBytes } = result;
    const was = outcome === 'unchanged' ? outcome : newChunks === chunks ? 'new' : 'known';
    if (was !== expected) throw new Error(`the push to ${name} was ${was}, not ${expected}`);
    peaks.push(peakBytes);
    if (was === 'new') others.push(result.othersShare);
    return { value: contentBytes / 1e3 / wallMs, cpuMs, wallMs };
  };
  const rounds = context.small ? 1 : 5;
  const { allNew, known, unchanged } = await interleaved(rounds, {
    allNew: async round => {
      context.report(`push: round ${round + 1} of ${rounds}`);
      home.newStore();
      return pushed('hello', 'new');
    },
    known: () => pushed('other', 'known'),
    unchanged: () => pushed('hello', 'unchanged'),
  });
  const again = row('all known', 'MB/s', known, { ratio: ratioOf(known, allNew, 'new') });
  const first = row('all new', 'MB/s', allNew, { target: { atLeast: 80 } });
  const rows: Row[] = [
    first,
    { ...again, target: { atLeast: 2 * first.p50 } },
    row('unchanged', 'MB/s', unchanged, { ratio: ratioOf(unchanged, allNew, 'new') }),
    row('peak memory of these', 'MiB', [{ value: Math.max(...peaks) / MiB }], {
      target: { atMost: peakMaxMiB },
    }),
  ];
  return { rows, others: median(others) };
}

async function benchMemory(home: BenchHome, { small, report }: Context): Promise<Row> {
  const contentBytes = (small ? 16 : 2200) * MiB;
  report(`push: an image of ${contentBytes / MiB} MiB`);
  const dir = home.path('large');
  const source = writeSyntheticImage(dir, 'large', contentBytes);
  home.newStore();
  const { peakBytes, cpuMs } = await push(home, source, 'large');
  const what = `peak memory, ${(contentBytes / 1e6).toFixed(0)} MB`;
  return row(what, 'MiB', [{ value: peakBytes / MiB, cpuMs }], {
    target: { atMost: peakMaxMiB },
  });
}
