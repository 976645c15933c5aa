/** What the verbs that mount have in common. */

import type { MountInfo, MountRequest } from '../daemon/protocol.ts';
import type { CommandContext } from './command.ts';

/** The image's config is long, and `inspect` shows it; the mount's own folder is ours. */
export type PublicMountInfo = Omit<MountInfo, 'configText' | 'folder'>;

export function publicInfo({ configText, folder, ...info }: MountInfo): PublicMountInfo {
  return info;
}

/**
 * The id of the key that the environment gives, for the daemon to compare with its own: it was
 * started in another environment. Loading keys takes time, so it is done for a key alone.
 */
export async function keyIdOf({
  env,
  settings,
}: CommandContext): Promise<Pick<MountRequest, 'keyId'>> {
  if (env['IMGSTORE_KEY'] === undefined) return {};
  const { ownerKeys } = await import('../keys/owner-keys.ts');
  const keys = ownerKeys({ directory: settings.keysDirectory, env, create: false });
  return { keyId: (await keys.current()).id };
}
