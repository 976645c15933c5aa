/**
 * Which nodes have the shards of a chunk now. While a node is out the next one in the chunk's ranking
 * stands in for it: with two nodes out, chunks that lie on both would otherwise be kept nowhere, and
 * every worker would fetch them from the store at each read.
 *
 * Workers need not agree on who is out: shards carry their indexes, and what a node holds for nobody
 * is evicted.
 */

/** Nodes of one chunk that are out at once; beyond them it has fewer shards. */
export const standInsMax = 2;

export interface Places<Node> {
  /** Shard i belongs on node i. A node that is out is among them only if none can stand in. */
  places: Node[];
  /** Those that are stood in for: they may be back, with what they had. */
  replaced: Node[];
  /** Those that are next: they may have stood in for nodes that are back. */
  standIns: Node[];
}

/** `ranked`: the first are those of the shards, as many as there are, the others may stand in. */
export function placesOf<Node>(
  ranked: readonly Node[],
  shards: number,
  isOut: (node: Node) => boolean,
): Places<Node> {
  const places = ranked.slice(0, shards);
  const replaced: Node[] = [];
  const standIns = ranked.slice(shards).filter(node => !isOut(node));
  for (const [index, node] of places.entries()) {
    const standIn = isOut(node) ? standIns.shift() : undefined;
    if (standIn === undefined) continue;
    places[index] = standIn;
    replaced.push(node);
  }
  return { places, replaced, standIns };
}
