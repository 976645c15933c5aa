/**
 * A warm program in a chroot on the lazily mounted image, against the same disk exported to a local
 * file that the kernel mounts in the same way: what is left of the difference once all is fetched.
 */

import { mountErofs, unmount } from '../src/fuse/mount.ts';
import { interleaved, measured, ratioOf, row, type Sample, type Workload } from './harness.ts';
import { BenchHome } from './home.ts';
import { imageSource, python, shell } from './images.ts';

export const workload: Workload = {
  name: 'exec',
  summary: 'a warm program on the mount, against the same disk as a local file',

  async run(context) {
    const { small, report } = context;
    await using home = new BenchHome();
    const program = small ? shell : python;
    const { command } = program;
    await home.push(await imageSource(program, home, context), 'hello');
    const [ours, local] = [home.makeFolder('ours'), home.makeFolder('local')];
    const file = home.path('disk');
    await home.json(['export', 'hello', `disk:${file}`]);
    const { via } = await home.mount('hello', ours);
    await mountErofs({ diskPath: file, directory: local, via: via ?? 'auto' });
    try {
      const start = async (root: string): Promise<Sample> => {
        const { stdout, wallMs, cpuMs } = await measured(['chroot', root, ...command]);
        if (stdout !== '1\n') throw new Error(`${command[0]} printed ${stdout}`);
        return { value: wallMs, cpuMs };
      };
      for (const root of [ours, local]) await start(root);
      report('exec');
      const samples = await interleaved(small ? 3 : 60, {
        ours: () => start(ours),
        local: () => start(local),
      });
      const ratio = ratioOf(samples.ours, samples.local, 'local file');
      const limit = row('', 'ms', samples.local).p50 * 1.1;
      return {
        rows: [
          row('on the mount', 'ms', samples.ours, { ratio, target: { atMost: limit } }),
          row('on a local file', 'ms', samples.local),
        ],
        commands: [
          `chroot DIR ${command.join(' ')}`,
          `imgstore export hello disk:FILE; mount -t erofs -o directio FILE DIR`,
        ],
        notes: [`Both mounts are EROFS by way of "${via}".`],
      };
    } finally {
      await unmount(local);
    }
  },
};
