/** Opens what a command's settings name: the store's active root, its keys, its catalog. */

import { Catalog } from '../catalog/catalog.ts';
import type { DedupSalt } from '../keys/keys.ts';
import { loadKeys, loadOwnerKey } from '../keys/load.ts';
import { openStore } from '../store/open-store.ts';
import { openRoot, type Root } from '../store/root.ts';
import type { CommandContext } from './command.ts';

export interface Opened {
  root: Root;
  catalog: Catalog;
}

/** For verbs that read: makes neither a store nor a key. */
export async function openForReading({ settings, env }: CommandContext): Promise<Opened> {
  const root = await openRoot(await openStore(settings.store), { create: false });
  const directory = settings.keysDirectory;
  const ownerKey = await loadOwnerKey({ directory, env, create: false });
  return { root, catalog: new Catalog(root, ownerKey) };
}

/** For push: makes the store and the keys at first use. */
export async function openForPush({
  settings,
  env,
}: CommandContext): Promise<Opened & { salt: DedupSalt }> {
  const root = await openRoot(await openStore(settings.store), { create: true });
  const { owner, salt } = await loadKeys({ directory: settings.keysDirectory, env });
  return { root, catalog: new Catalog(root, owner), salt };
}
