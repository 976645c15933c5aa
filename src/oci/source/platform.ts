/**
 * Platforms: how they are written, compared and preferred. The rules are containerd's
 * (github.com/containerd/platforms, database.go and compare.go), so that the same image is chosen
 * as by a pull: architecture aliases are one, and a machine also takes what it can run beside its
 * own, best first.
 */

import { ImgstoreError } from '../../base/errors.ts';
import type { SourcePlatform } from '../source-image.ts';

export interface PlatformWish {
  /** Asked for by the user, not just the machine's own. */
  explicit: boolean;
  /** Normalised, best first; never empty. */
  ranked: readonly SourcePlatform[];
}

/** `os/arch[/variant]`, or the machine's own platform if undefined. USAGE if malformed. */
export function platformWish(text: string | undefined): PlatformWish {
  if (text === undefined) return { explicit: false, ranked: ranking(machinePlatform()) };
  const match = /^([a-z0-9_.-]+)\/([a-z0-9_.-]+)(?:\/([a-z0-9_.-]+))?$/i.exec(text);
  if (match === null) {
    throw new ImgstoreError('USAGE', `Cannot use platform ${JSON.stringify(text)}: malformed`, {
      hint: 'Write OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64 or linux/arm/v7.',
    });
  }
  const [, os, architecture, variant] = match;
  return { explicit: true, ranked: ranking(platform(os!, architecture!, variant)) };
}

/** 0 is best; undefined if the wish does not take it. `offered` must be normalised. */
export function platformRank(wish: PlatformWish, offered: SourcePlatform): number | undefined {
  const text = formatPlatform(offered);
  const rank = wish.ranked.findIndex(ranked => formatPlatform(ranked) === text);
  return rank === -1 ? undefined : rank;
}

export function formatPlatform({ os, architecture, variant }: SourcePlatform): string {
  return variant === undefined ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`;
}

export function normalizePlatform({ os, architecture, variant }: SourcePlatform): SourcePlatform {
  return platform(os, architecture, variant);
}

/** The daemon runs on Linux only, so the system needs no look. */
export function machinePlatform(nodeArchitecture: string = process.arch): SourcePlatform {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };
  return platform('linux', names[nodeArchitecture] ?? nodeArchitecture, undefined);
}

function platform(os: string, architecture: string, variant: string | undefined): SourcePlatform {
  const system = os.toLowerCase();
  const [cpu, cpuVariant] = normalizedCpu(architecture.toLowerCase(), variant?.toLowerCase() ?? '');
  const normalized = { os: system === 'macos' ? 'darwin' : system, architecture: cpu };
  return cpuVariant === '' ? normalized : { ...normalized, variant: cpuVariant };
}

function normalizedCpu(architecture: string, variant: string): [cpu: string, variant: string] {
  switch (architecture) {
    case 'i386':
    case '386':
      return ['386', ''];
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', variant === 'v1' ? '' : variant];
    case 'aarch64':
    case 'arm64':
      return ['arm64', variant === '8' || variant === 'v8' ? '' : variant];
    case 'armhf':
      return ['arm', 'v7'];
    case 'armel':
      return ['arm', 'v6'];
    case 'arm':
      if (variant === '') return ['arm', 'v7'];
      return ['arm', /^[5-8]$/.test(variant) ? `v${variant}` : variant];
    default:
      return [architecture, variant];
  }
}

/** What a machine of the wanted platform runs, best first. */
function ranking(wanted: SourcePlatform): SourcePlatform[] {
  const cpus: [architecture: string, variant: string][] = [
    [wanted.architecture, wanted.variant ?? ''],
  ];
  if (wanted.architecture === 'amd64') {
    for (const version of below(wanted.variant, 2)) cpus.push(['amd64', `v${version}`]);
    if (wanted.variant !== undefined) cpus.push(['amd64', '']);
    cpus.push(['386', '']);
  } else if (wanted.architecture === 'arm') {
    for (const version of below(wanted.variant, 5)) cpus.push(['arm', `v${version}`]);
  } else if (wanted.architecture === 'arm64') {
    for (const variant of arm64Below(wanted.variant ?? 'v8')) cpus.push(['arm64', variant]);
    for (const version of [8, 7, 6, 5]) cpus.push(['arm', `v${version}`]);
  }
  return cpus.map(([architecture, variant]) => platform(wanted.os, architecture, variant));
}

/** The versions below `vN`, down to the lowest. */
function below(variant: string | undefined, lowest: number): number[] {
  const version = Number(/^v([1-9])$/.exec(variant ?? '')?.[1] ?? 0);
  return Array.from({ length: Math.max(0, version - lowest) }, (_, i) => version - 1 - i);
}

/** v9.x runs v9.0 to v9.x and v8.0 to v8.(x + 5), where the two lines parted. */
function arm64Below(variant: string): string[] {
  const match = /^v([89])(?:\.([0-9]))?$/.exec(variant);
  if (match === null) return [];
  const minor = Number(match[2] ?? 0);
  const line = (major: number, from: number): string[] =>
    Array.from({ length: from + 1 }, (_, i) =>
      i === from ? `v${major}` : `v${major}.${from - i}`,
    );
  const lower = match[1] === '9' ? [...line(9, minor), ...line(8, minor + 5)] : line(8, minor);
  return lower.filter(each => each !== variant);
}
