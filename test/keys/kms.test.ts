import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { describeError, type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { decryptDataKey, generateDataKey, type KmsTimes } from '../../src/keys/kms.ts';
import { type KmsFault, LocalKms } from '../support/local-kms.ts';
import { rejectsWith, useEnvironment } from './support.ts';

const context = { purpose: 'imgstore key file', kind: 'imgstore owner-key' };
const what = 'Cannot open the owner key';
const times: KmsTimes = { connectMaxMs: 500, answerMaxMs: 300, attemptsMax: 2 };
let kms: LocalKms;
let keyArn: string;

before(async () => {
  kms = await LocalKms.start();
});
after(() => kms[Symbol.asyncDispose]());
beforeEach(() => {
  useEnvironment(kms.environment());
  keyArn = kms.addKey();
  kms.requests.length = 0;
});
afterEach(() => {
  kms.fault = () => undefined;
});

async function refused(work: Promise<unknown>, code: ErrorCode, text: RegExp): Promise<void> {
  await rejectsWith(work, code, text);
  // Nothing of what the service said but its code.
  const said = await work.catch(describeError);
  assert.doesNotMatch(String(said), /stand-in|AKIA|Signature=/);
}

function open(
  held: { keyArn: string; wrapped: Buffer },
  changed: Record<string, string> = {},
): Promise<Uint8Array> {
  return decryptDataKey(held, { what, context: { ...context, ...changed }, times });
}

test('a secret comes back through KMS, by id, ARN and alias, and is another one each time', async () => {
  const arn = kms.addKey('imgstore');
  const seen = new Set<string>();
  for (const name of [arn, arn.split('/')[1]!, 'alias/imgstore']) {
    const made = await generateDataKey(name, context, times);
    assert.equal(made.keyArn, arn);
    assert.equal(made.secret.length, 32);
    assert.ok(!made.wrapped.includes(Buffer.from(made.secret)));
    assert.deepEqual(Buffer.from(await open(made)), Buffer.from(made.secret));
    seen.add(made.wrapped.toString('hex')).add(Buffer.from(made.secret).toString('hex'));
  }
  assert.equal(seen.size, 6);
  const [first] = kms.requests;
  assert.deepEqual(first?.input['EncryptionContext'], context);
  assert.equal(first?.input['KeySpec'], 'AES_256');
});

test('the region is that of an ARN, whatever is set', async () => {
  useEnvironment({ ...kms.environment(), AWS_REGION: 'us-east-1' });
  const made = await generateDataKey(keyArn, context, times);
  await open(made);
  await refused(generateDataKey('alias/x', context, times), 'KEY', /signature is wrong/);
  const { AWS_REGION: _, ...without } = kms.environment();
  useEnvironment({
    ...without,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  });
  await refused(generateDataKey('alias/x', context, times), 'USAGE', /no valid region.*ARN/);
});

test('another context, another key and a changed ciphertext do not open', async () => {
  const made = await generateDataKey(keyArn, context, times);
  await refused(open(made, { kind: 'imgstore dedup-salt' }), 'KEY', /not for this purpose/);
  await refused(open(made, { domain: 'a' }), 'KEY', /not for this purpose/);
  await refused(open({ ...made, keyArn: kms.addKey() }), 'KEY', /another KMS key wrapped it/);
  for (let at = 0; at < made.wrapped.length; at += 7) {
    const wrapped = Buffer.from(made.wrapped);
    wrapped[at]! ^= 1;
    await refused(open({ keyArn, wrapped }), 'KEY', /InvalidCiphertextException/);
  }
});

test('a KMS key that is disabled, about to be deleted or not there', async () => {
  const made = await generateDataKey(keyArn, context, times);
  kms.setState(keyArn, 'Disabled');
  await refused(open(made), 'KEY', /is disabled \(DisabledException\)\. Enable arn:aws:kms/);
  kms.setState(keyArn, 'PendingDeletion');
  await refused(open(made), 'KEY', /deletion/);
  kms.setState(keyArn, 'Enabled');
  await open(made);
  const gone = `${keyArn.slice(0, -3)}000`;
  await refused(generateDataKey(gone, context, times), 'KEY', /no such KMS key/);
  await refused(generateDataKey('a b', context, times), 'USAGE', /as a KMS key/);
});

test('who may make secrets but not open them, or is not known, is told so', async () => {
  useEnvironment(kms.environmentOfUser(operation => operation === 'GenerateDataKey'));
  const made = await generateDataKey(keyArn, context, times);
  await refused(open(made), 'KEY', /access denied.*kms:Decrypt.* allowed on arn:/);
  useEnvironment({ ...kms.environment(), AWS_SECRET_ACCESS_KEY: 'of another' });
  await refused(open(made), 'KEY', /signature is wrong.*secret access key/);
  useEnvironment({ ...kms.environment(), AWS_ACCESS_KEY_ID: 'AKIANOBODY' });
  await refused(open(made), 'KEY', /credentials are not known/);
});

test('without credentials', async () => {
  useEnvironment({
    AWS_ENDPOINT_URL_KMS: kms.endpoint,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
  });
  await refused(generateDataKey(keyArn, context, times), 'KEY', /no usable credentials/);
});

const passing: readonly [what: string, fault: KmsFault][] = [
  ['throttles', { do: 'answer', status: 400, code: 'ThrottlingException' }],
  ['is broken', { do: 'answer', status: 500, code: 'KMSInternalException' }],
  ['closes the connection', { do: 'reset' }],
  ['is slow', { do: 'delay', waitMs: 700 }],
];
for (const [name, fault] of passing) {
  test(`a service that ${name} is asked again, and not for ever`, async () => {
    const made = await generateDataKey(keyArn, context, times);
    kms.requests.length = 0;
    kms.fault = () => (kms.requests.length === 1 ? fault : undefined);
    assert.deepEqual(Buffer.from(await open(made)), Buffer.from(made.secret));
    assert.equal(kms.requests.length, 2);
    kms.fault = () => fault;
    await refused(open(made), 'UNAVAILABLE', /KMS/);
    assert.equal(kms.requests.length, 4);
  });
}

const senseless: readonly KmsFault[] = [
  { do: 'stall' },
  { do: 'answer', status: 200, body: 'not JSON' },
  { do: 'answer', status: 200, body: '[]' },
  { do: 'answer', status: 200, body: '{"Plaintext":"AAAA"}' },
  { do: 'answer', status: 418, body: '<html>' },
];
for (const fault of senseless) {
  test(`an answer that cannot be KMS's: ${JSON.stringify(fault)}`, async () => {
    const made = await generateDataKey(keyArn, context, times);
    kms.fault = () => fault;
    const error = await open(made).catch((caught: unknown) => caught);
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.ok(error.code === 'UNAVAILABLE' || error.code === 'KEY', error.message);
  });
}

test('nobody listens', async () => {
  const made = await generateDataKey(keyArn, context, times);
  useEnvironment({ ...kms.environment(), AWS_ENDPOINT_URL_KMS: 'http://127.0.0.1:9' });
  await refused(
    open(made),
    'UNAVAILABLE',
    /no connection to KMS \(ECONNREFUSED\).*AWS_ENDPOINT_URL_KMS/,
  );
});
