/**
 * A real S3 service for tests, benches and developers: Ceph's radosgw from Debian with one monitor
 * and one OSD on a file, on loopback ports, with nothing outside of one temporary folder. There is no
 * manager: what S3 needs works without. It takes about 10 s to start.
 *
 * `node test/support/radosgw.ts start` leaves one running with a bucket `imgstore`, and prints its
 * settings for a shell, which `--store s3://imgstore` then uses; `… stop` ends it and removes all.
 *
 * Invariant: of a gateway that a test started, no process outlives the test's own, however that ends.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { runChecked } from './processes.ts';

const startTimeoutMs = 120_000;
const accessKey = 'IMGSTORETESTACCESS';
const secretKey = 'not-a-secret-but-a-test-key';
const region = 'us-east-1';

export interface RadosGateway {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  /** What the AWS SDK reads: credentials and region, and no profile or metadata of this machine. */
  readonly environment: Readonly<Record<string, string>>;
  readonly processIds: readonly number[];
  close(): Promise<void>;
}

/** Its processes end with this one, or when it is closed. */
export async function startRadosGateway(): Promise<RadosGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'imgstore-radosgw-'));
  return launch(folder, { detached: false });
}

export async function createBucket(gateway: RadosGateway, name: string): Promise<void> {
  const client = new S3Client({
    endpoint: gateway.endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
  });
  await client.send(new CreateBucketCommand({ Bucket: name }));
  client.destroy();
}

async function launch(folder: string, options: { detached: boolean }): Promise<RadosGateway> {
  const [monitorPort, port] = await freePorts();
  const config = join(folder, 'ceph.conf');
  const children: ChildProcess[] = [];
  const close = async () => {
    await Promise.all(children.map(killChild));
    rmSync(folder, { recursive: true, force: true });
  };
  const daemon = (program: string, args: readonly string[]) => {
    const child = startDaemon(folder, program, ['-f', '-c', config, ...args], options);
    children.push(child);
    return child;
  };
  const ceph = (program: string, args: readonly string[]) =>
    runChecked(program, ['-c', config, ...args], { timeoutMs: startTimeoutMs });
  try {
    const clusterId = randomUUID();
    writeFileSync(config, configuration(folder, { clusterId, monitorPort, port }));
    writeFileSync(join(folder, 'keyring'), '');
    for (const name of ['mon', 'osd', 'rgw']) mkdirSync(join(folder, name));
    const map = join(folder, 'monmap');
    const monitor = ['--addv', 'a', `[v2:127.0.0.1:${monitorPort}]`];
    await runChecked('monmaptool', ['--create', '--fsid', clusterId, ...monitor, map]);
    await ceph('ceph-mon', ['--mkfs', '-i', 'a', '--monmap', map]);
    daemon('ceph-mon', ['-i', 'a']);
    const osdId = randomUUID();
    await ceph('ceph', ['osd', 'new', osdId]);
    await ceph('ceph-osd', ['--mkfs', '-i', '0', '--osd-uuid', osdId]);
    daemon('ceph-osd', ['-i', '0']);
    await answers(`http://127.0.0.1:${port}/`, daemon('radosgw', ['-n', 'client.rgw.a']), folder);
    await ceph('radosgw-admin', [
      ...['user', 'create', '--uid=test', '--display-name=test'],
      ...[`--access-key=${accessKey}`, `--secret-key=${secretKey}`],
    ]);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    endpoint: `http://127.0.0.1:${port}`,
    environment: {
      AWS_ACCESS_KEY_ID: accessKey,
      AWS_SECRET_ACCESS_KEY: secretKey,
      AWS_REGION: region,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    },
    processIds: children.map(child => child.pid!),
    close,
  };
}

interface Cluster {
  clusterId: string;
  monitorPort: number;
  port: number;
}

function configuration(folder: string, { clusterId, monitorPort, port }: Cluster): string {
  const messages = ['cluster', 'service', 'client', 'mon cluster', 'mon service', 'mon client'];
  return `[global]
fsid = ${clusterId}
mon host = v2:127.0.0.1:${monitorPort}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
${messages.map(kind => `ms ${kind} mode = crc`).join('\n')}
keyring = ${folder}/keyring
mon data = ${folder}/mon
osd data = ${folder}/osd
rgw data = ${folder}/rgw
run dir = ${folder}
crash dir = ${folder}
admin socket = ${folder}/$name.asok
log file = ${folder}/$name.log
log to stderr = false

# One OSD holds everything once, on a sparse file.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block size = ${16 * 1024 ** 3}
mon allow pool size one = true
mon max pg per osd = 1000
# A full disk of the machine is not the test's concern.
mon data avail warn = 1
mon data avail crit = 1

# Changes of the maps wait a second otherwise: half of the start's time.
paxos propose interval = 0.02
paxos min wait = 0.01

# Memory: some hundred MB in all, whatever is stored.
bluestore cache autotune = false
bluestore cache size = ${64 * 1024 ** 2}
osd memory target = ${896 * 1024 ** 2}

# Without tcp_nodelay a get takes 40 ms: its body waits for the delayed ACK of its headers.
rgw frontends = beast endpoint=127.0.0.1:${port} tcp_nodelay=1
# Buckets are small: one index object each.
rgw override bucket index max shards = 1
rgw dynamic resharding = false
`;
}

function startDaemon(
  folder: string,
  program: string,
  args: readonly string[],
  { detached }: { detached: boolean },
): ChildProcess {
  const output = openSync(join(folder, `${program}.out`), 'a');
  try {
    // Even if this process is killed with SIGKILL, the kernel ends the daemon.
    const command = detached ? [program] : ['setpriv', '--pdeathsig', 'KILL', program];
    const child = spawn(command[0]!, [...command.slice(1), ...args], {
      detached,
      stdio: ['ignore', output, output],
    });
    child.on('error', () => {});
    if (detached) child.unref();
    return child;
  } finally {
    closeSync(output);
  }
}

async function answers(url: string, gateway: ChildProcess, folder: string): Promise<void> {
  const deadlineMs = performance.now() + startTimeoutMs;
  for (;;) {
    const answer = await fetch(url).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.status === 200) return;
    if (hasEnded(gateway) || performance.now() > deadlineMs) {
      const state = hasEnded(gateway) ? 'has ended' : 'does not answer';
      throw new Error(`radosgw ${state}: ${logTails(folder)}`);
    }
    await sleep(50);
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

function logTails(folder: string): string {
  const logs = readdirSync(folder).filter(name => /\.(log|out)$/.test(name));
  return logs
    .map(name => `\n${name}: ${readFileSync(join(folder, name), 'utf8').slice(-1500)}`)
    .join('');
}

async function killChild(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()] as const;
  const ports = await Promise.all(
    servers.map(async server => {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      return (server.address() as { port: number }).port;
    }),
  );
  for (const server of servers) server.close();
  return [ports[0]!, ports[1]!];
}

/** Where `start` leaves what `stop` needs. */
const developerFolder = join(tmpdir(), 'imgstore-radosgw');
const stateFile = join(developerFolder, 'state.json');

async function main(verb: string | undefined): Promise<void> {
  if (verb === 'start') {
    mkdirSync(developerFolder);
    const gateway = await launch(developerFolder, { detached: true });
    writeFileSync(stateFile, JSON.stringify(gateway.processIds));
    await createBucket(gateway, 'imgstore');
    const settings = { ...gateway.environment, AWS_ENDPOINT_URL_S3: gateway.endpoint };
    const lines = Object.entries(settings).map(([name, value]) => `export ${name}=${value}\n`);
    process.stdout.write(lines.join(''));
  } else if (verb === 'stop') {
    const processIds: number[] = JSON.parse(readFileSync(stateFile, 'utf8'));
    for (const id of processIds.filter(isOurs)) process.kill(id, 'SIGKILL');
    while (processIds.some(isOurs)) await sleep(20);
    rmSync(developerFolder, { recursive: true });
  } else {
    throw new Error('Usage: node test/support/radosgw.ts start|stop');
  }
}

/** The number of a process that ended may be another one's by now. */
function isOurs(processId: number): boolean {
  try {
    return readFileSync(`/proc/${processId}/cmdline`, 'utf8').includes(developerFolder);
  } catch {
    return false;
  }
}

if (import.meta.main) await main(process.argv[2]);
