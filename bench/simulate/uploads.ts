/**
 * Images that are uploaded again while others are started: each as often as the square root of how
 * often it is started, so that what is popular is deployed more, but not each time it is started.
 */

import type { Random } from '../../test/support/random.ts';
import { Popularity, type World } from './world.ts';

export class Uploads {
  readonly #world: World;
  readonly #starts: Popularity;
  readonly #uploads: Popularity;
  readonly #perStart: number;
  readonly #random: Random;

  constructor(world: World, starts: Popularity, perStart: number, random: Random) {
    this.#world = world;
    this.#starts = starts;
    this.#uploads = new Popularity(world, starts.zipf / 2);
    this.#perStart = perStart;
    this.#random = random;
  }

  /**
   * As at any time there are some that were not started since they were uploaded: of all that
   * happens to an image, the share of uploads.
   */
  begin(): void {
    for (let rank = 0; rank < this.#world.images; rank++) {
      const uploads = this.#perStart * this.#uploads.shareOf(rank);
      const isNew = this.#random.chance(uploads / (uploads + this.#starts.shareOf(rank)));
      if (isNew) this.#world.upload(this.#world.imageOfRank(rank));
    }
  }

  /** To be called at each start. */
  next(): void {
    if (!this.#random.chance(this.#perStart)) return;
    this.#world.upload(this.#world.imageOfRank(this.#uploads.next(this.#random)));
  }
}
