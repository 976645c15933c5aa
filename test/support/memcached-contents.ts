/** What a memcached holds, changed behind the back of whoever stored it. */

import { once } from 'node:events';
import { connect } from 'node:net';

export interface Item {
  key: string;
  value: Buffer;
}

interface Server {
  host: string;
  port: number;
}

/** All that have a key that begins so. */
export async function itemsOf(server: Server, prefix: string): Promise<Item[]> {
  const items: Item[] = [];
  for (const key of await keysOf(server)) {
    const value = key.startsWith(prefix) ? await readValue(server, key) : undefined;
    if (value !== undefined) items.push({ key, value });
  }
  return items;
}

export async function setItems(server: Server, items: readonly Item[]): Promise<void> {
  const pieces = items.flatMap(({ key, value }) => [
    Buffer.from(`set ${key} 0 0 ${value.length} noreply\r\n`),
    value,
    Buffer.from('\r\n'),
  ]);
  await converse(server, Buffer.concat(pieces));
}

/** It forgets everything. */
export async function flush(server: Server): Promise<void> {
  await converse(server, Buffer.from('flush_all\r\n'), 'OK\r\n');
}

async function keysOf(server: Server): Promise<string[]> {
  const said = await converse(server, Buffer.from('lru_crawler metadump all\r\n'), 'END\r\n');
  return [...said.toString('latin1').matchAll(/^key=(\S+) /gm)].map(([, key]) =>
    decodeURIComponent(key!),
  );
}

async function readValue(server: Server, key: string): Promise<Buffer | undefined> {
  const said = await converse(server, Buffer.from(`get ${key}\r\n`), 'END\r\n');
  const line = said.toString('latin1', 0, 1024).split('\r\n', 1)[0]!;
  const sizeBytes = /^VALUE \S+ \d+ (\d+)$/.exec(line)?.[1];
  const at = line.length + 2;
  return sizeBytes === undefined ? undefined : said.subarray(at, at + Number(sizeBytes));
}

/** What it says, up to the end that is named; without one it says nothing. */
async function converse({ host, port }: Server, words: Buffer, end?: string): Promise<Buffer> {
  const socket = connect({ host, port });
  const said: Buffer[] = [];
  try {
    await once(socket, 'connect');
    if (end === undefined) {
      // It closes when it has done what came before.
      socket.end(Buffer.concat([words, Buffer.from('quit\r\n')]));
      socket.resume();
      await once(socket, 'close');
      return Buffer.alloc(0);
    }
    socket.write(words);
    for await (const bytes of socket as AsyncIterable<Buffer>) {
      said.push(bytes);
      if (bytes.subarray(-end.length).toString('latin1') === end) break;
    }
  } finally {
    socket.destroy();
  }
  return Buffer.concat(said);
}
