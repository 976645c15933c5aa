/** `imgstore mount` of a known image with the daemon running, against starting Node for nothing. */

import { interleaved, measured, ratioOf, row, type Sample, type Workload } from './harness.ts';
import { BenchHome } from './home.ts';
import { imageSource, python, shell } from './images.ts';

export const workload: Workload = {
  name: 'mount',
  summary: 'mount a known image by the command line, the daemon running',

  async run(context) {
    const { small, report } = context;
    await using home = new BenchHome();
    const program = small ? shell : python;
    await home.push(await imageSource(program, home, context), 'hello');
    const dir = home.makeFolder('mounted');
    await home.mount('hello', dir);
    await home.unmount(dir);
    report('mount');
    const inDaemon: Sample[] = [];
    const samples = await interleaved(small ? 3 : 30, {
      mount: async () => {
        const { stdout, wallMs, cpuMs } = await home.measure(['mount', '--json', 'hello', dir]);
        inDaemon.push({ value: (JSON.parse(stdout) as { mountMs: number }).mountMs });
        return { value: wallMs, cpuMs };
      },
      umount: async () => {
        const { wallMs, cpuMs } = await home.measure(['umount', dir]);
        return { value: wallMs, cpuMs };
      },
      node: async () => {
        const { wallMs, cpuMs } = await measured([process.execPath, '-e', '0']);
        return { value: wallMs, cpuMs };
      },
    });
    const { mount, umount, node } = samples;
    return {
      rows: [
        row('mount', 'ms', mount, {
          target: { atMost: 60 },
          ratio: ratioOf(mount, node, 'node -e 0'),
        }),
        row('  in the daemon', 'ms', inDaemon, { target: { atMost: 15 } }),
        row('umount', 'ms', umount, { ratio: ratioOf(umount, node, 'node -e 0') }),
        row('node -e 0', 'ms', node),
      ],
      commands: ['imgstore mount hello DIR', 'imgstore umount DIR', 'node -e 0'],
    };
  },
};
