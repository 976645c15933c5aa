/** What serves pages: Node with packages of npm, nginx, PHP, Ruby. */

import { type ImageDefinition, standsFor, upon, type VersionDefinition } from '../definition.ts';

const newCode = 'new application code over the same dependencies';

const nodeApp = (greeting: string) => `
cat >/app/server.js <<'END'
const axios = require('axios');
const ejs = require('ejs');
const express = require('express');
const lodash = require('lodash');
const moment = require('moment');
const { Pool } = require('pg');
const winston = require('winston');
const { z } = require('zod');

const log = winston.createLogger({ transports: [new winston.transports.Console()] });
const database = new Pool({ host: '127.0.0.1', port: 1 });
const query = z.object({ name: z.string().default('node') });
const page = ejs.compile('<!doctype html><p>${greeting}, <%= name %>: <%= sum %>');
const app = express();
app.get('/', (request, response) => {
  const { name } = query.parse(request.query);
  response.send(page({ name, sum: lodash.sum([20, 22]) }));
});
app.listen(18082, '127.0.0.1', () => {
  log.info('listening', { since: moment().toISOString(), axios: axios.VERSION });
});
END
`;

const nodeCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['nodejs'] }, { npm: 'later' }, { script: nodeApp('Hello') }],
  config: {
    entrypoint: ['node'],
    cmd: ['/app/server.js'],
    env: ['NODE_ENV=production'],
    workingDir: '/app',
    exposedPorts: ['18082/tcp'],
  },
};

export const node: ImageDefinition = {
  hello: { done: { by: 'http', port: 18082, path: '/', text: ', node: 42' } },
  current: nodeCurrent,
  versions: {
    code: {
      stands: newCode,
      from: 'node',
      withoutTop: 1,
      layers: [{ script: nodeApp('Good day') }],
      config: {},
    },
    earlier: {
      stands: "the application's dependencies a year before, over the same runtime",
      from: 'node',
      withoutTop: 2,
      layers: [{ npm: 'earlier' }, { script: nodeApp('Hello') }],
      config: {},
    },
    unpatched: upon('base:unpatched', nodeCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', nodeCurrent, standsFor.trixie),
  },
};

const nginxConfig = (paragraph: string) => `
cat >/etc/nginx/nginx.conf <<'END'
worker_processes 1;
error_log stderr;
pid /run/nginx.pid;
events {}
http {
  include /etc/nginx/mime.types;
  access_log off;
  server {
    listen 8080;
    root /srv/www;
  }
}
END
mkdir -p /srv/www
echo '<!doctype html><title>imgstore</title><p>${paragraph}' \
  >/srv/www/index.html
rm -r /var/www
`;

const nginxCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['nginx'] }, { script: nginxConfig('Served from a lazily mounted image.') }],
  config: {
    entrypoint: ['nginx', '-g', 'daemon off;'],
    cmd: [],
    exposedPorts: ['8080/tcp'],
  },
};

export const nginx: ImageDefinition = {
  hello: { done: { by: 'http', port: 8080, path: '/', text: 'lazily mounted image' } },
  current: nginxCurrent,
  versions: {
    pages: {
      stands: 'other pages over the same server',
      from: 'nginx',
      withoutTop: 1,
      layers: [{ script: nginxConfig('Served anew from a lazily mounted image.') }],
      config: {},
    },
    rebuilt: upon('base:rebuilt', nginxCurrent, standsFor.rebuilt),
    unpatched: upon('base:unpatched', nginxCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', nginxCurrent, standsFor.trixie),
  },
};

const phpApp = (title: string) => `
mkdir -p /srv/www
cat >/srv/www/index.php <<'END'
<?php
$page = new DOMDocument();
$page->loadHTML('<!doctype html><title>${title}</title><p id=answer>');
$page->getElementsByTagName('p')[0]->textContent = 'php: ' . mb_strlen(str_repeat('é', 42));
echo $page->saveHTML();
END
`;

const phpCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['php-cli', 'php-mbstring', 'php-xml'] }, { script: phpApp('Shop') }],
  config: {
    entrypoint: ['php'],
    cmd: ['-S', '127.0.0.1:18083', '-t', '/srv/www'],
    exposedPorts: ['18083/tcp'],
  },
};

export const php: ImageDefinition = {
  hello: { done: { by: 'http', port: 18083, path: '/', text: 'php: 42' } },
  current: phpCurrent,
  versions: {
    code: {
      stands: newCode,
      from: 'php',
      withoutTop: 1,
      layers: [{ script: phpApp('The New Shop') }],
      config: {},
    },
    unpatched: upon('base:unpatched', phpCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', phpCurrent, standsFor.trixie),
  },
};

const rubyApp = (greeting: string) => `
mkdir -p /app
cat >/app/app.rb <<'END'
require 'json'
require 'sinatra'
set :bind, '127.0.0.1'
set :port, 18084
set :server, :puma
get('/') { JSON.generate(greeting: '${greeting}', ruby: 6 * 7) }
END
`;

const rubyPackages = ['ruby', 'ruby-sinatra', 'puma'];

const rubyCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: rubyPackages }, { script: rubyApp('Hello') }],
  config: {
    entrypoint: ['ruby'],
    cmd: ['/app/app.rb'],
    env: ['LANG=C.UTF-8'],
    exposedPorts: ['18084/tcp'],
  },
};

export const ruby: ImageDefinition = {
  hello: { done: { by: 'http', port: 18084, path: '/', text: '"ruby":42' } },
  current: rubyCurrent,
  versions: {
    code: {
      stands: newCode,
      from: 'ruby',
      withoutTop: 1,
      layers: [{ script: rubyApp('Good day') }],
      config: {},
    },
    nokogiri: {
      stands: 'a dependency added below the application',
      from: 'ruby',
      withoutTop: 1,
      layers: [{ packages: ['ruby-nokogiri'] }, { script: rubyApp('Hello') }],
      config: {},
    },
    trixie: {
      stands: standsFor.trixie,
      from: 'base:trixie',
      // Sinatra 4 does not start without it; Debian 12 has no such package.
      layers: [{ packages: [...rubyPackages, 'ruby-rackup'] }, { script: rubyApp('Hello') }],
      config: rubyCurrent.config,
    },
  },
};
