/** The images of the corpus: what Debian packages and commands each layer is made of. */

export interface LayerDefinition {
  /** Debian packages, installed with what they depend on and without what they recommend. */
  packages?: readonly string[];
  /** Run by `sh -eu` inside of the image, after the packages. */
  script?: string;
}

export interface ConfigDefinition {
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env?: readonly string[];
  user?: string;
  workingDir?: string;
  exposedPorts?: readonly string[];
}

export interface ImageDefinition {
  /** The image whose layers lie below and whose config is amended; the first has none. */
  from?: ImageName;
  layers: readonly LayerDefinition[];
  config: ConfigDefinition;
}

export type ImageName = 'base' | 'python' | 'python-sci' | 'nginx' | 'big';

/** All that an image can hold besides bytes: replaced, deleted, retyped, linked, with xattrs. */
const pythonApp = `
mkdir -p /app/data
cat >/app/main.py <<'END'
import json, platform, sys
print(json.dumps({"hello": "imgstore", "python": platform.python_version(), "args": sys.argv[1:]}))
END
ln /app/main.py /app/entry.py
ln -s data /app/current
echo '{"greeting": "hello"}' >/app/data/settings.json
chmod 2750 /app/data
chown -R 1000:1000 /app
echo 'An image of the imgstore corpus.' >/etc/motd
rm -r /usr/share/doc/python3* /usr/share/doc/libsqlite3-0
rm -r /usr/share/man
ln -s doc /usr/share/man
python3 -B - <<'END'
import os
os.setxattr('/app/main.py', 'user.origin', b'corpus\\x00\\xff')
# cap_net_bind_service+ep, as setcap writes it
os.setxattr('/app/data/settings.json', 'security.capability',
            bytes.fromhex('0100000200040000000000000000000000000000'))
END
`;

const nginxConfig = `
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
echo '<!doctype html><title>imgstore</title><p>Served from a lazily mounted image.' \
  >/srv/www/index.html
rm -r /var/www
`;

export const definitions: Readonly<Record<ImageName, ImageDefinition>> = {
  base: {
    layers: [{}],
    config: {
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      cmd: ['/bin/sh'],
    },
  },
  python: {
    from: 'base',
    layers: [{ packages: ['python3'] }, { script: pythonApp }],
    config: {
      entrypoint: ['python3'],
      cmd: ['/app/main.py'],
      env: ['PYTHONDONTWRITEBYTECODE=1', 'LANG=C.UTF-8'],
      user: '1000:1000',
      workingDir: '/app',
    },
  },
  'python-sci': {
    from: 'python',
    layers: [{ packages: ['python3-numpy'] }],
    config: { cmd: ['-c', 'import numpy; print(numpy.arange(10).sum())'] },
  },
  nginx: {
    from: 'base',
    layers: [{ packages: ['nginx'] }, { script: nginxConfig }],
    config: {
      entrypoint: ['nginx', '-g', 'daemon off;'],
      cmd: [],
      exposedPorts: ['8080/tcp'],
    },
  },
  // More than 2 GB of compilers and their libraries, under names that every release has.
  big: {
    from: 'base',
    layers: [
      { packages: ['llvm-dev', 'rustc'] },
      { packages: ['libboost-all-dev', 'golang-go'] },
      { packages: ['default-jdk-headless'] },
    ],
    config: {},
  },
};
