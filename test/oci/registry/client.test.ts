/** Logging in, and where credentials, redirects and plain HTTP may go. */

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { tarOf } from '../../support/tar-builder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault, readLayerOf } from '../source/streams.ts';
import { imageOf, type OddHandler, OddRegistry, openFrom } from './odd-registry.ts';

const tars = ['one', 'two'].map(name => tarOf([{ path: name, content: name }]));
const image = imageOf(tars);

/** An environment in which somebody has logged in to the host. */
function loggedIn(context: TestContext, host: string, entry: Record<string, string>) {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, '.docker'));
  writeFileSync(join(folder, '.docker/config.json'), JSON.stringify({ auths: { [host]: entry } }));
  return { HOME: folder };
}

const tomAndSecret = { auth: Buffer.from('tom:s3cret').toString('base64') };
const basicOfTom = `Basic ${tomAndSecret.auth}`;

interface Service {
  registry: OddRegistry;
  /** On another port: another origin. */
  tokens: OddRegistry;
}

/** A registry that wants Bearer tokens `t1`, `t2`, …, of which only the latest is good. */
async function withTokens(
  context: TestContext,
  answer: (count: number) => object = count => ({ token: `t${count}` }),
): Promise<Service> {
  const tokens = await OddRegistry.start(context, image);
  tokens.handler = (_, response) => {
    response.end(JSON.stringify(answer(tokens.requests.length)));
    return true;
  };
  const registry = await OddRegistry.start(context, image);
  const challenge = `Bearer realm="http://${tokens.host}/token?account=x",service="odd",scope="repository:other:push,pull"`;
  registry.handler = ({ authorization }, response) => {
    const isGood =
      tokens.requests.length > 0 && authorization === `Bearer t${tokens.requests.length}`;
    if (isGood) return false;
    response.writeHead(401, { 'WWW-Authenticate': ['Negotiate', challenge] }).end('{}');
    return true;
  };
  return { registry, tokens };
}

test('a token is asked for once, for a pull of this repository, without credentials if there are none', async context => {
  const { registry, tokens } = await withTokens(context);
  const opened = await openFrom(`${registry.host}/team/app`);
  context.after(() => opened.close());
  for (const i of [1, 0]) assert.ok((await readLayerOf(opened, i)).equals(tars[i]!));
  assert.equal(tokens.requests.length, 1);
  const { path, authorization, method } = tokens.requests[0]!;
  const query = new URL(path, 'http://x').searchParams;
  assert.deepEqual(Object.fromEntries(query), {
    account: 'x',
    service: 'odd',
    scope: 'repository:team/app:pull',
  });
  assert.deepEqual([method, authorization], ['GET', undefined]);
});

test('a password goes to the token service, the token to the registry', async context => {
  const { registry, tokens } = await withTokens(context, count => ({ access_token: `t${count}` }));
  const env = loggedIn(context, registry.host, tomAndSecret);
  const opened = await openFrom(`${registry.host}/app`, { env });
  await opened.close();
  assert.equal(tokens.requests[0]!.authorization, basicOfTom);
  const sent = registry.requests.map(request => request.authorization);
  assert.deepEqual(sent, [undefined, 'Bearer t1', 'Bearer t1']);
});

test('an identity token is exchanged by POST', async context => {
  const { registry, tokens } = await withTokens(context);
  const env = loggedIn(context, registry.host, { identitytoken: 's3cret' });
  await (await openFrom(`${registry.host}/app`, { env })).close();
  const { method, form, authorization } = tokens.requests[0]!;
  assert.deepEqual([method, authorization], ['POST', undefined]);
  assert.deepEqual(Object.fromEntries(new URLSearchParams(form)), {
    grant_type: 'refresh_token',
    client_id: 'imgstore',
    refresh_token: 's3cret',
    service: 'odd',
    scope: 'repository:app:pull',
  });
});

test('a token that has ended is replaced: before its end if that is known, else when it is refused', async context => {
  const short = await withTokens(context, count => ({ token: `t${count}`, expires_in: 1 }));
  await (await openFrom(`${short.registry.host}/app`)).close();
  assert.deepEqual(
    short.registry.requests.map(request => request.authorization),
    [undefined, 'Bearer t2', 'Bearer t3'],
    'one that is about to end is not used',
  );
  const revoked = await withTokens(context);
  const opened = await openFrom(`${revoked.registry.host}/app`);
  context.after(() => opened.close());
  revoked.tokens.requests.push(revoked.tokens.requests[0]!);
  const layers = await Promise.all([readLayerOf(opened, 0), readLayerOf(opened, 1)]);
  assert.ok(layers.every((layer, i) => layer.equals(tars[i]!)));
  assert.equal(revoked.tokens.requests.length, 3, 'both layers have waited for one token');
});

test('a token service that refuses, fails or talks nonsense ends the push, and tells no secret', async context => {
  const answers: [status: number, body: string, code: 'IO' | 'UNAVAILABLE', requests: number][] = [
    [401, '{"errors":[{"code":"DENIED"}]}', 'IO', 1],
    [403, '', 'IO', 1],
    [200, 's3cret', 'UNAVAILABLE', 1],
    [200, '{}', 'UNAVAILABLE', 1],
    [200, '{"token":""}', 'UNAVAILABLE', 1],
    [200, '{"token":"a b"}', 'UNAVAILABLE', 1],
    [200, '{"token":"a\\r\\nX: s3cret"}', 'UNAVAILABLE', 1],
    [200, `{"token":"${'x'.repeat(300_000)}"}`, 'UNAVAILABLE', 1],
    [503, 's3cret', 'UNAVAILABLE', 4],
  ];
  for (const [status, body, code, requests] of answers) {
    const { registry, tokens } = await withTokens(context);
    const env = loggedIn(context, registry.host, tomAndSecret);
    tokens.handler = (_, response) => {
      response.writeHead(status).end(body);
      return true;
    };
    const fault = await assertFault(openFrom(`${registry.host}/app`, { env }), code, registry.host);
    assert.doesNotMatch(`${fault.message} ${fault.hint}`, /s3cret|dG9t/);
    assert.equal(tokens.requests.length, requests, body);
  }
});

test('a token that is good for nothing, or a wrong password, is tried once', async context => {
  const { registry, tokens } = await withTokens(context, () => ({ token: 'wrong' }));
  await assertFault(openFrom(`${registry.host}/app`), 'IO', 'refuses access', 'docker login');
  assert.deepEqual([registry.requests.length, tokens.requests.length], [2, 1]);
  const challenges = [
    'Digest realm="x"',
    '',
    'Bearer',
    'Bearer realm="not a url"',
    'Bearer realm="',
  ];
  for (const challenge of challenges) {
    const odd = await OddRegistry.start(context, image, {
      handler: (_, response) =>
        response.writeHead(401, { 'WWW-Authenticate': challenge }).end() && true,
    });
    await assertFault(
      openFrom(`${odd.host}/app`),
      'UNAVAILABLE',
      'login of a kind that is not known',
    );
  }
});

test('credentials do not follow a redirect to another origin', async context => {
  const storage = await OddRegistry.start(context, image);
  const registry = await OddRegistry.start(context, image);
  registry.handler = ({ authorization, path }, response) => {
    if (authorization !== basicOfTom) {
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="x"' }).end();
    } else if (path.startsWith('/v2/')) {
      // Within the registry first, where the header is needed, then away.
      response.writeHead(307, { Location: `/moved${path}` }).end('moved');
    } else {
      const signed = `${path.replace('/moved', '')}?signature=s3cret`;
      response.writeHead(302, { Location: `http://${storage.host}${signed}` }).end();
    }
    return true;
  };
  const env = loggedIn(context, registry.host, tomAndSecret);
  const opened = await openFrom(`${registry.host}/app`, { env });
  context.after(() => opened.close());
  assert.ok((await readLayerOf(opened, 0)).equals(tars[0]!));
  assert.equal(storage.requests.length, 3, 'manifest, config and the layer');
  assert.ok(storage.requests.every(({ path }) => path.endsWith('?signature=s3cret')));
  for (const { authorization } of storage.requests) assert.equal(authorization, undefined);
  // What storage refuses is no challenge of the registry, and its signature enters no message.
  storage.handler = (_, response) =>
    response.writeHead(401, { 'WWW-Authenticate': 'Basic' }).end() && true;
  const fault = await assertFault(readLayerOf(opened, 1), 'IO', storage.host);
  assert.doesNotMatch(`${fault.message} ${fault.hint}`, /s3cret/);
});

test('a redirect leads neither in circles nor to what is no URL of the web', async context => {
  const { registry, handler } = await redirecting(context);
  const refused: [location: string, state: string][] = [
    ['/again', 'more than 5 times'],
    ['http://[', 'no URL'],
    ['ftp://127.0.0.1/x', 'leads to ftp:'],
    ['file:///etc/passwd', 'leads to file:'],
    [`http://tom:s3cret@${registry.host}/`, 'a user in it'],
    ['http://169.254.169.254/latest/meta-data', 'plain HTTP'],
  ];
  for (const [location, state] of refused) {
    handler.location = location;
    const fault = await assertFault(openFrom(`${registry.host}/app`), 'UNAVAILABLE', state);
    assert.doesNotMatch(`${fault.message} ${fault.hint}`, /s3cret/);
  }
  assert.equal(registry.requests.length, 6 + 5);
});

async function redirecting(context: TestContext) {
  const target = { location: '/' };
  const handler: OddHandler = (_, response) =>
    response.writeHead(302, { Location: target.location }).end() && true;
  return { registry: await OddRegistry.start(context, image, { handler }), handler: target };
}

test('no token service is asked over plain HTTP but on loopback', async context => {
  const registry = await OddRegistry.start(context, image, {
    handler: (_, response) =>
      response
        .writeHead(401, { 'WWW-Authenticate': 'Bearer realm="http://tokens.invalid/"' })
        .end() && true,
  });
  const env = loggedIn(context, registry.host, tomAndSecret);
  await assertFault(
    openFrom(`${registry.host}/app`, { env }),
    'UNAVAILABLE',
    'tokens.invalid',
    '--plain-http',
  );
});

test('plain HTTP where it is asked for, through the proxy of the environment', async context => {
  const proxy = await OddRegistry.start(context, image);
  const env = { HTTP_PROXY: `http://${proxy.host}` };
  const opened = await openFrom('registry.invalid/app', { env, plainHttp: true });
  context.after(() => opened.close());
  assert.ok((await readLayerOf(opened, 0)).equals(tars[0]!));
  assert.match(proxy.requests[0]!.path, /^http:\/\/registry\.invalid\/v2\/app\/manifests\/latest$/);
  const direct = await OddRegistry.start(context, image);
  await (await openFrom(`${direct.host}/app`, { env })).close();
  assert.equal(direct.requests.length, 2, 'loopback hosts are asked directly');
  const wrong = { HTTPS_PROXY: 'http://tom:s3cret@[' };
  const fault = await assertFault(
    openFrom('registry.invalid/app', { env: wrong }),
    'USAGE',
    'HTTPS_PROXY',
  );
  assert.doesNotMatch(fault.message, /s3cret/);
});
