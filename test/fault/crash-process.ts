/**
 * A process that ends itself by SIGKILL at a change it makes to a store in a folder: FOLDER N WHEN
 * WORK…, where N counts puts, copies and removals from 0, WHEN is `during` or `after`, and WORK is
 * `push NAME NUMBER` or `gc`. One that comes to its end prints how many changes it made.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { pushImage } from '../../src/push/push.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { targetOn } from '../support/pushing.ts';
import { WatchedStore } from '../support/watched-store.ts';
import { collectOnce, faultImage } from './world.ts';

const [folder, nth, when, work, name, number] = process.argv.slice(2);
let changes = 0;

/** There is no coming back from it, not even to the next line. */
function die(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('a process survives SIGKILL');
}

const store = new WatchedStore(new DirectoryStore(folder!), async ({ kind }, go) => {
  const isChange = kind === 'put' || kind === 'copy' || kind === 'remove';
  if (!isChange || changes++ !== Number(nth)) return go();
  const going = go();
  if (when === 'during') {
    await nextTurn();
    die();
  }
  await going;
  return die();
});

if (work === 'push') await pushImage(faultImage(Number(number)), await targetOn(store, name!));
else await collectOnce(store, 0);
process.stdout.write(`${changes}\n`);
