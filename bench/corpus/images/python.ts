/** Python, and on it numpy, pandas, PyTorch and a web application. */

import { type ImageDefinition, standsFor, upon, type VersionDefinition } from '../definition.ts';

const greeting = `\
import json, platform, sys
print(json.dumps({"hello": "imgstore", "python": platform.python_version(), "args": sys.argv[1:]}))
`;

const newGreeting = `\
import argparse, json, logging, platform
parser = argparse.ArgumentParser()
parser.add_argument("words", nargs="*")
logging.basicConfig(level=logging.WARNING)
logging.debug("started")
words = parser.parse_args().words
print(json.dumps({"hello": "imgstore", "python": platform.python_version(), "args": words}))
`;

/** All that an image can hold besides bytes: replaced, deleted, retyped, linked, with xattrs. */
const pythonApp = (main: string) => `
mkdir -p /app/data
cat >/app/main.py <<'END'
${main}END
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

const pythonCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['python3'] }, { script: pythonApp(greeting) }],
  config: {
    entrypoint: ['python3'],
    cmd: ['/app/main.py'],
    env: ['PYTHONDONTWRITEBYTECODE=1', 'LANG=C.UTF-8'],
    user: '1000:1000',
    workingDir: '/app',
  },
};

export const python: ImageDefinition = {
  hello: { done: { by: 'line', text: '"hello": "imgstore"' } },
  current: pythonCurrent,
  versions: {
    code: {
      stands: 'new application code over the same dependencies',
      from: 'python',
      withoutTop: 1,
      layers: [{ script: pythonApp(newGreeting) }],
      config: {},
    },
    rebuilt: upon('base:rebuilt', pythonCurrent, standsFor.rebuilt),
    unpatched: upon('base:unpatched', pythonCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', pythonCurrent, standsFor.trixie),
  },
};

const pythonSciCurrent: VersionDefinition = {
  from: 'python',
  layers: [{ packages: ['python3-numpy'] }],
  config: { cmd: ['-c', 'import numpy; print(numpy.arange(10).sum())'] },
};

export const pythonSci: ImageDefinition = {
  hello: { done: { by: 'line', text: '45' } },
  current: pythonSciCurrent,
  versions: {
    h5py: {
      stands: 'a dependency added on top',
      from: 'python-sci',
      layers: [{ packages: ['python3-h5py'] }],
      config: {},
    },
  },
};

const report = (rows: number) => `
mkdir -p /srv/report
python3 -B - <<'END'
import random
random.seed(1)
with open('/srv/report/sales.csv', 'w') as file:
    file.write('day,city,amount\\n')
    for row in range(${rows}):
        city = random.choice(['Aachen', 'Bremen', 'Celle', 'Dresden'])
        file.write(f'{row % 365},{city},{random.randrange(100_000) / 100}\\n')
END
cat >/srv/report/report.py <<'END'
import pandas
from scipy import stats
sales = pandas.read_csv('/srv/report/sales.csv')
print(sales.groupby('city')['amount'].agg(['count', 'mean']))
print('trend', stats.linregress(sales['day'], sales['amount']).slope)
print('rows', len(sales))
END
`;

const pandasCurrent: VersionDefinition = {
  from: 'python',
  layers: [
    { packages: ['python3-numpy', 'python3-scipy'] },
    { packages: ['python3-pandas'] },
    { script: report(20_000) },
  ],
  config: { cmd: ['/srv/report/report.py'] },
};

export const pandas: ImageDefinition = {
  hello: { done: { by: 'line', text: 'rows 2' } },
  current: pandasCurrent,
  versions: {
    data: {
      stands: "the application's data grown over the same dependencies",
      from: 'pandas',
      withoutTop: 1,
      layers: [{ script: report(200_000) }],
      config: {},
    },
    order: {
      stands: 'the same packages, in layers of another order and cut',
      from: 'python',
      layers: [
        { packages: ['python3-pandas'] },
        { packages: ['python3-scipy'] },
        { script: report(20_000) },
      ],
      config: pandasCurrent.config,
    },
    matplotlib: {
      stands: 'a dependency added below the application',
      from: 'pandas',
      withoutTop: 1,
      layers: [{ packages: ['python3-matplotlib'] }, { script: report(20_000) }],
      config: {},
    },
  },
};

const model = (width: number) => `
mkdir -p /srv/model
cat >/srv/model/infer.py <<'END'
import torch
torch.manual_seed(1)
model = torch.load('/srv/model/model.pt')
with torch.no_grad():
    print('answer', model(torch.ones(1, 512)).sum().item())
END
python3 -B - <<'END'
import torch
torch.manual_seed(1)
model = torch.nn.Sequential(
    torch.nn.Linear(512, ${width}), torch.nn.ReLU(), torch.nn.Linear(${width}, 512))
torch.save(model, '/srv/model/model.pt')
END
`;

export const torch: ImageDefinition = {
  hello: { done: { by: 'line', text: 'answer ' } },
  current: {
    from: 'python',
    layers: [{ packages: ['python3-torch'] }, { script: model(4096) }],
    config: { cmd: ['/srv/model/infer.py'] },
  },
  versions: {
    weights: {
      stands: 'another model over the same framework',
      from: 'torch',
      withoutTop: 1,
      layers: [{ script: model(6144) }],
      config: {},
    },
  },
};

const site = (title: string) => `
mkdir -p /srv/site/shop
cd /srv/site/shop
touch __init__.py
cat >settings.py <<'END'
SECRET_KEY = 'of the corpus, not of anybody'
ALLOWED_HOSTS = ['*']
ROOT_URLCONF = 'shop.urls'
INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth']
DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}
DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'
TEMPLATES = [{'BACKEND': 'django.template.backends.django.DjangoTemplates'}]
USE_TZ = True
END
cat >urls.py <<'END'
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.template import Context, Engine
from django.urls import path

page = Engine().from_string('<!doctype html><title>{{ title }}</title><p>shop: {{ answer }}')

def index(request):
    with connection.cursor() as cursor:
        cursor.execute('select 6 * 7')
        [answer] = cursor.fetchone()
    return HttpResponse(page.render(Context({'title': '${title}', 'answer': answer})))

urlpatterns = [path('', index)]
END
cat >wsgi.py <<'END'
import os
os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
END
`;

const djangoCurrent: VersionDefinition = {
  from: 'python',
  layers: [{ packages: ['python3-django', 'gunicorn'] }, { script: site('Shop') }],
  config: {
    entrypoint: ['gunicorn', '--chdir', '/srv/site', '--bind', '127.0.0.1:18081'],
    cmd: ['shop.wsgi'],
    exposedPorts: ['18081/tcp'],
  },
};

export const django: ImageDefinition = {
  hello: { done: { by: 'http', port: 18081, path: '/', text: 'shop: 42' } },
  current: djangoCurrent,
  versions: {
    code: {
      stands: 'new application code over the same dependencies',
      from: 'django',
      withoutTop: 1,
      layers: [{ script: site('The New Shop') }],
      config: {},
    },
    psycopg: {
      stands: 'a dependency added below the application',
      from: 'django',
      withoutTop: 1,
      layers: [{ packages: ['python3-psycopg2'] }, { script: site('Shop') }],
      config: {},
    },
    unpatched: upon('python:unpatched', djangoCurrent, standsFor.unpatched),
  },
};
