/** Opens what a command's settings name: the store's roots, the owner keys, the catalog. */

import { Catalog } from '../catalog/catalog.ts';
import type { DedupSalt } from '../keys/keys.ts';
import { ownerKeys } from '../keys/owner-keys.ts';
import { loadDedupSalt } from '../keys/salts.ts';
import { openStore } from '../store/open-store.ts';
import { Roots } from '../store/roots.ts';
import type { CommandContext } from './command.ts';

export interface Opened {
  roots: Roots;
  catalog: Catalog;
}

/** For verbs that read: makes neither a store nor a key. Nothing is asked of the store yet. */
export function openForReading(context: CommandContext): Promise<Opened> {
  return open(context, { createKey: false });
}

/** For push, which makes the store and the owner key when it needs them, not before. */
export function openForPush(context: CommandContext): Promise<Opened> {
  return open(context, { createKey: true });
}

/** Of the domain that the command names; made at its first use. */
export function openDedupSalt(context: CommandContext): Promise<DedupSalt> {
  const { settings, env } = context;
  return loadDedupSalt({
    directory: settings.keysDirectory,
    env,
    domain: context.option('domain'),
    now: context.now,
    onMade: message => context.progress.step(message),
  });
}

async function open(
  context: CommandContext,
  { createKey }: { createKey: boolean },
): Promise<Opened> {
  const { settings, env, log, signal } = context;
  const onTrouble = (message: string) => log('warn', message);
  const roots = new Roots(await openStore(settings.store, { onTrouble }), {
    onAlarm: message => log('warn', message),
    signal,
  });
  const onMade = (message: string) => context.progress.step(message);
  const keys = ownerKeys({ directory: settings.keysDirectory, env, create: createKey, onMade });
  return { roots, catalog: new Catalog(roots, keys) };
}
