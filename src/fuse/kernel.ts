/** What this kernel may be trusted with. */

/** `6.18.44-amd64` → [6, 18, 44]; what is not a number counts as 0. */
function parseRelease(release: string): [number, number, number] {
  const [major, minor, patch] = release.split(/[.-]/).map(part => Number.parseInt(part, 10));
  return [major || 0, minor || 0, patch || 0];
}

/**
 * The first sound patch release of each series with long-term support. EROFS with `directio` on a
 * file used freed memory before (CVE-2026-23224; the record at cve.org names these releases). The
 * null dereference of file-backed mounts over FUSE was fixed earlier than that.
 */
const soundPatchOfSeries: ReadonlyMap<string, number> = new Map([
  ['6.12', 72],
  ['6.18', 11],
  ['6.19', 1],
]);

/**
 * True if EROFS may be mounted straight on a file with direct I/O. Kernels of distributions that do
 * not carry the patch release in their name count as unsound.
 */
export function erofsFileDirectIoIsSound(release: string): boolean {
  const [major, minor, patch] = parseRelease(release);
  const soundPatch = soundPatchOfSeries.get(`${major}.${minor}`);
  return major >= 7 || (soundPatch !== undefined && patch >= soundPatch);
}
