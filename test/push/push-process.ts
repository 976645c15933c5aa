/**
 * A process that pushes into a store in a folder, for tests with several of them: FOLDER NUMBER
 * pushes that numbered image as app:NUMBER. FOLDER alternate pushes the images 0, 1 and 2 in turn
 * as app, until it is killed; it prints a line before each.
 */

import { pushImage } from '../../src/push/push.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { targetOn } from '../support/pushing.ts';
import { numberedImage } from './numbered.ts';

const [folder, what] = process.argv.slice(2);
const store = new DirectoryStore(folder!);

if (what === 'alternate') {
  for (let number = 0; ; number = (number + 1) % 3) {
    process.stdout.write(`${number}\n`);
    await pushImage(numberedImage(number), await targetOn(store, 'app'));
  }
}
await pushImage(numberedImage(Number(what)), await targetOn(store, `app:${what}`));
