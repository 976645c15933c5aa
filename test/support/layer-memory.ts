/** A memory of layers that is one: sealed memos by name. */

import type { LayerMemory } from '../../src/push/memo/layer-memory.ts';

export class MapMemory implements LayerMemory {
  readonly memos = new Map<string, Buffer>();

  async has(name: string): Promise<boolean> {
    return this.memos.has(name);
  }

  async read(name: string): Promise<Buffer | undefined> {
    const found = this.memos.get(name);
    return found && Buffer.from(found);
  }

  async write(name: string, pieces: readonly Buffer[]): Promise<void> {
    this.memos.set(name, Buffer.concat(pieces));
  }
}
