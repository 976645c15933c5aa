/**
 * The fleet as people write it: `4+1/a=10.0.0.1:11211,b=10.0.0.2:11211*2@rack2`, which is the shape
 * (4+1 may be left out), then for each node its name, address, and perhaps weight and domain.
 */

import { ImgstoreError } from '../../base/errors.ts';
import { dataShardsMax, fleetNodesMax, parityShardsMax } from '../../base/limits.ts';
import { isShape, type Shape } from '../../erasure/reed-solomon.ts';
import type { MemcachedAddress } from './client.ts';
import type { FleetNode } from './placement.ts';

export interface FleetServer extends FleetNode, MemcachedAddress {}

export interface FleetConfig {
  shape: Shape;
  /** At least as many as a chunk has shards; names and addresses are distinct. */
  nodes: FleetServer[];
}

const defaultShape: Shape = { dataShards: 4, parityShards: 1 };
/** The name decides where shards lie, so it is not the address, which may change. */
const namePattern = /^[a-z0-9][a-z0-9._-]{0,62}$/i;
const nodePattern =
  /^(?<name>[^=]*)=(?<host>\[[0-9a-f:.%a-z]+\]|[^:*@[\]]+):(?<port>\d{1,5})(\*(?<weight>[^@]*))?(@(?<domain>.*))?$/i;
const hostPattern = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.%a-z]+\])$/i;
const weightPattern = /^\d{1,4}(\.\d{1,3})?$/;

/** `source` is where it was written, for messages: `IMGSTORE_FLEET`. Errors: USAGE. */
export function parseFleet(text: string, source: string): FleetConfig {
  const slash = text.indexOf('/');
  const shape = slash < 0 ? defaultShape : parseShape(text.slice(0, slash), source);
  const entries = text
    .slice(slash + 1)
    .split(',', fleetNodesMax + 1)
    .map(entry => entry.trim());
  if (entries.length > fleetNodesMax)
    throw wrong(source, `it has more than ${fleetNodesMax} nodes`);
  const nodes = entries.map(entry => parseNode(entry, source));
  refuseTwice(nodes, source, 'name', ({ name }) => name);
  refuseTwice(nodes, source, 'address', ({ host, port }) => `${host}:${port}`);
  const shards = shape.dataShards + shape.parityShards;
  if (nodes.length < shards) {
    const code = `${shape.dataShards}+${shape.parityShards}`;
    throw new ImgstoreError(
      'USAGE',
      `Cannot use ${source}: ${nodes.length} nodes are too few for ${code} shards on different ones`,
      { hint: `List ${shards} nodes or more, or begin with another shape, as 1+1/a=…,b=….` },
    );
  }
  return { shape, nodes };
}

function parseShape(text: string, source: string): Shape {
  const [, data, parity] = /^(\d{1,2})\+(\d{1,2})$/.exec(text.trim()) ?? [];
  const shape = { dataShards: Number(data), parityShards: Number(parity) };
  if (isShape(shape)) return shape;
  const state = `${quoted(text)} is not a shape`;
  const hint = `Write K+M, with K from 1 to ${dataShardsMax} and M from 0 to ${parityShardsMax}, as 4+1.`;
  throw new ImgstoreError('USAGE', `Cannot use ${source}: ${state}`, { hint });
}

function parseNode(entry: string, source: string): FleetServer {
  const parts = nodePattern.exec(entry)?.groups;
  if (parts === undefined) throw wrong(source, `${quoted(entry)} is not a node`);
  const { name = '', host = '', port, weight = '1', domain } = parts;
  if (!namePattern.test(name)) throw wrong(source, `${quoted(name)} is not a node's name`);
  if (!hostPattern.test(host)) throw wrong(source, `${quoted(host)} is not a host`);
  if (!(Number(port) >= 1 && Number(port) <= 65_535)) throw wrong(source, `port ${port} is none`);
  if (!weightPattern.test(weight) || Number(weight) === 0) {
    throw wrong(source, `${quoted(weight)} is not a weight from 0.001 to 9999`);
  }
  if (domain !== undefined && !namePattern.test(domain)) {
    throw wrong(source, `${quoted(domain)} is not a domain's name`);
  }
  return {
    name,
    host: host.replace(/^\[|\]$/g, ''),
    port: Number(port),
    weight: Number(weight),
    // A domain of its own: no domain that is written has a space in its name.
    domain: domain ?? `node ${name}`,
  };
}

/** Two nodes on one server would take each other's shards for their own. */
function refuseTwice(
  nodes: readonly FleetServer[],
  source: string,
  what: string,
  of: (node: FleetServer) => string,
): void {
  const seen = new Set<string>();
  for (const node of nodes) {
    if (seen.has(of(node))) throw wrong(source, `two nodes have the ${what} ${quoted(of(node))}`);
    seen.add(of(node));
  }
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

function wrong(source: string, state: string): ImgstoreError {
  return new ImgstoreError('USAGE', `Cannot use ${source}: ${state}`, {
    hint: 'Write NAME=HOST:PORT[*WEIGHT][@DOMAIN] for each memcached, separated by commas.',
  });
}
