/**
 * Root file systems from Debian packages. Archive, mirror, proxy and keys are those of this
 * machine's own apt; nothing of them stays in a file system that is made here.
 *
 * Times: what installing writes carries the time of the archive's index, so that the same packages
 * give the same bytes, and no file is older than the byte code that was compiled from it.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runChecked } from '../../test/support/processes.ts';
import type { ArchiveDefinition } from './definition.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const packagesTimeoutMs = 30 * 60_000;

/** The state of the archive at one moment, as apt has it in a folder of ours. */
export interface DebianArchive {
  codename: string;
  /** The newest index; newer times are set back to it. */
  epochSeconds: number;
  /** apt.conf and sources.list for use outside of the images. */
  configFile: string;
  sourcesFile: string;
  /** Packages that have been fetched for one image stay for the next. */
  packagesDir: string;
}

/** `bookworm amd64`: what images are specific to besides their definition. */
export async function debianRelease(): Promise<{ codename: string; architecture: string }> {
  const release = readFileSync('/etc/os-release', 'utf8');
  const [, codename] = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(release) ?? [];
  if (codename === undefined) throw new Error('/etc/os-release names no Debian release');
  const { stdout } = await runChecked('dpkg', ['--print-architecture']);
  return { codename, architecture: stdout.trim() };
}

/** Fetches the archive's indices into `dir`; `packagesDir` may be that of other states too. */
export async function openArchive(
  dir: string,
  packagesDir: string,
  definition: ArchiveDefinition,
): Promise<DebianArchive> {
  const { codename: ownCodename, architecture } = await debianRelease();
  const { codename = ownCodename, updates = true, daysEarlier = 0 } = definition;
  const lists = join(dir, 'lists');
  await mkdir(join(lists, 'partial'), { recursive: true });
  await mkdir(join(packagesDir, 'partial'), { recursive: true });
  const configFile = join(dir, 'apt.conf');
  await writeFile(
    configFile,
    [
      ...(await machineSettings()),
      'Dir::Etc::Main "/dev/null";',
      'Dir::Etc::Parts "/dev/null";',
      'Dir::Etc::Preferences "/dev/null";',
      'Dir::Etc::PreferencesParts "/dev/null";',
      `Dir::State::Lists "${lists}";`,
      'Dir::Cache::PkgCache "";',
      'Dir::Cache::SrcPkgCache "";',
      `APT::Architectures "${architecture}";`,
      'APT::Install-Recommends "false";',
      'APT::Sandbox::User "root";',
      'Acquire::Languages "none";',
      'Acquire::Retries "3";',
      'DPkg::Options:: "--force-unsafe-io";',
    ].join('\n'),
  );
  const env = { ...process.env, APT_CONFIG: configFile };
  await runChecked('apt-get', ['-qq', 'update'], { env, timeoutMs: packagesTimeoutMs });
  const sourcesFile = join(dir, 'sources.list');
  const sources = (await debianSources(env, ownCodename))
    .filter(({ release }) => updates || release === ownCodename)
    .map(({ release, ...rest }) => ({ ...rest, release: release.replace(ownCodename, codename) }));
  await writeFile(sourcesFile, sources.map(sourceLine).join(''));
  if (codename !== ownCodename || !updates) {
    const only = [
      '-o',
      `Dir::Etc::SourceList=${sourcesFile}`,
      '-o',
      'Dir::Etc::SourceParts=/dev/null',
    ];
    await runChecked('apt-get', ['-qq', 'update', ...only], { env, timeoutMs: packagesTimeoutMs });
  }
  const epochSeconds = newestIndexSeconds(lists) - daysEarlier * 24 * 60 * 60;
  return { codename, epochSeconds, configFile, sourcesFile, packagesDir };
}

/** How this machine reaches the archive. */
async function machineSettings(): Promise<string[]> {
  const { stdout } = await runChecked('apt-config', ['dump', 'Acquire']);
  return stdout.split('\n').filter(line => /^Acquire::(http|https|Check-)/.test(line));
}

interface Source {
  uri: string;
  release: string;
  component: string;
}

/** Where apt has the release itself and its updates, and no other archive. */
async function debianSources(env: NodeJS.ProcessEnv, codename: string): Promise<Source[]> {
  const format = '$(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)';
  const filters = ['Created-By: Packages', 'Origin: Debian', '--format', format];
  const { stdout } = await runChecked('apt-get', ['indextargets', ...filters], { env });
  const sources = [...new Set(stdout.split('\n'))]
    .map(line => line.split(' '))
    .filter(([name]) => name === codename || name?.startsWith(`${codename}-`))
    .map(([, uri = '', release = '', component = '']) => ({ uri, release, component }));
  if (sources.length === 0) throw new Error(`apt has no source of Debian ${codename}`);
  return sources;
}

function sourceLine({ uri, release, component }: Source): string {
  const signedBy = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
  return `deb ${signedBy}${uri} ${release} ${component}\n`;
}

function newestIndexSeconds(lists: string): number {
  const times = readdirSync(lists)
    .filter(name => name.endsWith('Release'))
    .map(name => /^Date: (.*)$/m.exec(readFileSync(join(lists, name), 'utf8'))?.[1])
    .map(date => Date.parse(date ?? '') / 1000)
    .filter(seconds => Number.isSafeInteger(seconds));
  if (times.length === 0) throw new Error('the archive has no dated index');
  return Math.max(...times);
}

/** Removed from every layer: what differs from one installation to the next and nothing reads. */
const leftovers = [
  'etc/hostname',
  'etc/resolv.conf',
  'etc/apt/sources.list.d/0000*',
  'etc/apt/apt.conf.d/99mmdebstrap',
  'var/cache/apt/*.bin',
  'var/cache/apt/archives/*.deb',
  'var/cache/debconf/*-old',
  'var/cache/ldconfig/aux-cache',
  'var/lib/apt/lists/*_*',
  'var/lib/dpkg/*-old',
  'var/log/*.log',
  'var/log/apt/*',
];

/** The packages that Debian calls essential, and apt, as a tar. */
export async function bootstrap(archive: DebianArchive, tarFile: string): Promise<void> {
  const settings = `${tarFile}.apt.conf`;
  await writeFile(settings, (await machineSettings()).join('\n'));
  const clean = `cd "$1" && rm -f ${leftovers.join(' ')}`;
  const args = ['--quiet', '--mode=root', '--variant=minbase', `--aptopt=${settings}`];
  await runChecked(
    'mmdebstrap',
    [...args, `--customize-hook=${clean}`, archive.codename, tarFile, archive.sourcesFile],
    { env: installEnvironment(archive), timeoutMs: packagesTimeoutMs },
  );
  await rm(settings);
}

/**
 * apt works from outside, so the image needs neither network nor keys; dpkg and the packages'
 * scripts run inside, with a /proc and processes of their own, and can start no service.
 */
export async function installPackages(
  archive: DebianArchive,
  root: string,
  packages: readonly string[],
): Promise<void> {
  const policy = join(root, 'usr/sbin/policy-rc.d');
  await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  const places = {
    'Dir::Etc::SourceList': archive.sourcesFile,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Status': join(root, 'var/lib/dpkg/status'),
    'Dir::State::Extended_States': join(root, 'var/lib/apt/extended_states'),
    'Dir::Cache::Archives': join(root, 'var/cache/apt/archives'),
    'Dir::Log': join(root, 'var/log/apt'),
    'DPkg::Chroot-Directory': root,
  };
  const options = Object.entries(places).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  // dpkg, in the image, must see the packages too; the mount ends with the command.
  const mounted = 'mount --bind "$0" "$1" && shift && exec apt-get "$@"';
  const fetched = [archive.packagesDir, join(root, 'var/cache/apt/archives')];
  const install = ['-qq', '-y', ...options, 'install', ...packages];
  await runChecked('unshare', [...inside(root), 'sh', '-euc', mounted, ...fetched, ...install], {
    env: installEnvironment(archive),
    timeoutMs: packagesTimeoutMs,
  });
  await rm(policy);
}

export async function runScript(root: string, script: string): Promise<void> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' };
  await runChecked('unshare', [...inside(root), 'chroot', root, 'sh', '-euc', script], { env });
}

/** A mount and a process namespace: nothing that runs in it, or that it mounts, outlives it. */
function inside(root: string): string[] {
  const proc = join(root, 'proc');
  return ['--mount', '--pid', '--fork', '--kill-child', `--mount-proc=${proc}`];
}

/** Byte code is written with the sets of a fixed hash, and no locale of the machine gets in. */
function installEnvironment(archive: DebianArchive): NodeJS.ProcessEnv {
  return {
    ...process.env,
    APT_CONFIG: archive.configFile,
    DEBIAN_FRONTEND: 'noninteractive',
    LC_ALL: 'C.UTF-8',
    PYTHONHASHSEED: '0',
    SOURCE_DATE_EPOCH: String(archive.epochSeconds),
  };
}

/** Removes leftovers, then sets times after the archive's back to it. */
export async function settle(archive: DebianArchive, root: string): Promise<void> {
  const epoch = `@${archive.epochSeconds}`;
  const touch = ['-exec', 'touch', '--no-dereference', `--date=${epoch}`, '{}', '+'];
  await runChecked('sh', ['-euc', `rm -f ${leftovers.join(' ')}`], { cwd: root });
  await runChecked('find', ['.', '-xdev', '-newermt', epoch, ...touch], { cwd: root });
}
