/** Requests as Amazon would get them, checked by the algorithm's own description. */

import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { test } from 'node:test';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { type ObjectRequest, ObjectRequests } from '../../src/store/s3-objects.ts';

interface Sent {
  method: string;
  protocol: string;
  hostname: string;
  port?: number;
  path: string;
  headers: Record<string, string>;
  body?: Uint8Array;
}

class Caught extends Error {}

const secretAccessKey = 'a-secret';
const credentials = { accessKeyId: 'AKID', secretAccessKey, sessionToken: 'a-token' };

/** The request that would go out. */
async function sentBy(config: S3ClientConfig, request: ObjectRequest): Promise<Sent> {
  let sent: Sent | undefined;
  const handle = async (given: unknown) => {
    sent = given as Sent;
    throw new Caught();
  };
  const requestHandler = { handle } as unknown as NonNullable<S3ClientConfig['requestHandler']>;
  const client = new S3Client({ credentials, requestHandler, ...config });
  const requests = new ObjectRequests(client, 'a-bucket');
  await assert.rejects(requests.send(request, new AbortController().signal), Caught);
  return sent!;
}

function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Of Amazon's "Create a signed AWS API request", version 4; no query. */
function signatureOf({ method, path, headers }: Sent, region: string): string {
  const [, signed] = /SignedHeaders=([^,]+),/.exec(headers['authorization']!)!;
  const canonicalHeaders = signed!.split(';').map(name => `${name}:${headers[name]!.trim()}\n`);
  const payload = headers['x-amz-content-sha256'];
  const canonical = [method, path, '', canonicalHeaders.join(''), signed, payload].join('\n');
  const time = headers['x-amz-date']!;
  const scope = [time.slice(0, 8), region, 's3', 'aws4_request'];
  let key: string | Buffer = `AWS4${secretAccessKey}`;
  for (const part of scope) key = createHmac('sha256', key).update(part).digest();
  const toSign = ['AWS4-HMAC-SHA256', time, scope.join('/'), sha256(canonical)].join('\n');
  return createHmac('sha256', key).update(toSign).digest('hex');
}

const body = Buffer.from('the bytes');
const put: ObjectRequest = {
  method: 'PUT',
  key: 'p/a%b/@c+d=e~',
  body,
  headers: { 'if-none-match': '*', 'x-amz-copy-source': 'x' },
};

test('to Amazon a bucket is a host name, and everything that matters is signed', async () => {
  const sent = await sentBy({ region: 'eu-west-1' }, put);
  assert.equal(sent.protocol, 'https:');
  assert.equal(sent.hostname, 'a-bucket.s3.eu-west-1.amazonaws.com');
  assert.equal(sent.path, '/p/a%25b/%40c%2Bd%3De~');
  assert.equal(sent.headers['x-amz-content-sha256'], sha256(body));
  assert.equal(sent.headers['content-length'], '9');
  assert.equal(sent.headers['x-amz-security-token'], 'a-token');
  assert.equal(sent.body, body);
  const authorization = sent.headers['authorization']!;
  const names = /SignedHeaders=([^,]+),/.exec(authorization)![1]!.split(';');
  for (const name of [
    ...['host', 'if-none-match', 'x-amz-content-sha256', 'x-amz-copy-source'],
    ...['x-amz-date', 'x-amz-security-token'],
  ]) {
    assert.ok(names.includes(name), name);
  }
  assert.ok(authorization.endsWith(`Signature=${signatureOf(sent, 'eu-west-1')}`), authorization);
});

test('to an endpoint a bucket is a part of the path', async () => {
  const endpoint = 'http://127.0.0.1:7480/base';
  const sent = await sentBy(
    { region: 'us-east-1', endpoint, forcePathStyle: true },
    { method: 'GET', key: 'k/l' },
  );
  assert.equal(`${sent.protocol}//${sent.hostname}:${sent.port}`, 'http://127.0.0.1:7480');
  assert.equal(sent.path, '/base/a-bucket/k/l');
  assert.equal(sent.headers['host'], '127.0.0.1:7480');
  assert.equal(sent.headers['x-amz-content-sha256'], sha256(''));
  assert.ok(sent.headers['authorization']!.endsWith(`Signature=${signatureOf(sent, 'us-east-1')}`));
});

test('credentials that changed are used; settings that failed are asked for again', async () => {
  const keys: string[] = [];
  const requestHandler = {
    handle: async (given: unknown) => {
      keys.push(/Credential=(\w+)/.exec((given as Sent).headers['authorization']!)![1]!);
      throw new Caught();
    },
  } as unknown as NonNullable<S3ClientConfig['requestHandler']>;
  let asked = 0;
  const client = new S3Client({
    region: async () => {
      if (asked++ === 0) throw new Error('no region');
      return 'us-east-1';
    },
    credentials: async () => ({
      accessKeyId: `KEY${keys.length}`,
      secretAccessKey,
      expiration: new Date(Date.now() + 1000),
    }),
    requestHandler,
  });
  const requests = new ObjectRequests(client, 'a-bucket');
  const send = () => requests.send({ method: 'GET', key: 'k' }, new AbortController().signal);
  await assert.rejects(send(), /no region/);
  await assert.rejects(send(), Caught);
  await assert.rejects(send(), Caught);
  assert.deepEqual(keys, ['KEY0', 'KEY1']);
});
