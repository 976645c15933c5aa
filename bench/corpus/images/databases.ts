/** Databases: Redis and PostgreSQL, each until it has answered a query in its own protocol. */

import { type ImageDefinition, standsFor, upon, type VersionDefinition } from '../definition.ts';

const redisCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['redis-server'] }],
  config: {
    entrypoint: ['redis-server'],
    cmd: ['--bind', '127.0.0.1', '--port', '18085', '--dir', '/tmp'],
    user: 'redis',
    exposedPorts: ['18085/tcp'],
  },
};

export const redis: ImageDefinition = {
  hello: {
    done: { by: 'tcp', port: 18085, send: 'SET k v\r\nGET k\r\n', text: '+OK\r\n$1\r\nv' },
  },
  current: redisCurrent,
  versions: {
    rebuilt: upon('base:rebuilt', redisCurrent, standsFor.rebuilt),
    unpatched: upon('base:unpatched', redisCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', redisCurrent, standsFor.trixie),
  },
};

/** Debian's package has made a cluster; its system identifier differs from build to build. */
const cluster = (rows: number) => `
cd /etc/postgresql/*/main
echo 'host all all 127.0.0.1/32 trust' >pg_hba.conf
cat >>postgresql.conf <<'END'
listen_addresses = '127.0.0.1'
port = 18086
unix_socket_directories = '/tmp'
ssl = off
END
ln -sT "$PWD" /srv/cluster
ln -s /usr/lib/postgresql/*/bin/postgres /usr/local/bin/postgres
chown -h postgres: /srv/cluster
runuser -u postgres -- /usr/local/bin/postgres --single -j -D /srv/cluster postgres <<'END'
create table item (id int primary key, name text not null);

insert into item select n, md5(n::text) from generate_series(1, ${rows}) n;

END
`;

const postgresCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['postgresql'] }, { script: cluster(20_000) }],
  config: {
    entrypoint: ['postgres', '-D', '/srv/cluster'],
    cmd: [],
    user: 'postgres',
    exposedPorts: ['18086/tcp'],
  },
};

/** A message of PostgreSQL's frontend protocol: its length counts itself. */
function message(type: string, body: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(length.length + body.length);
  return type + length.toString('latin1') + body;
}

const startup = message('', '\0\x03\0\0user\0postgres\0database\0postgres\0\0');

export const postgres: ImageDefinition = {
  hello: {
    done: {
      by: 'tcp',
      port: 18086,
      send: startup + message('Q', `select 'md5 ' || name from item where id = 42\0`),
      text: 'md5 a1d0c6e83f027327d8461063f4ac58a6',
    },
  },
  current: postgresCurrent,
  versions: {
    data: {
      stands: 'more rows in the same server',
      from: 'postgres',
      withoutTop: 1,
      layers: [{ script: cluster(60_000) }],
      config: {},
    },
    unpatched: upon('base:unpatched', postgresCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', postgresCurrent, standsFor.trixie),
  },
};
