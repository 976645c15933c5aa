import assert from 'node:assert/strict';
import { test } from 'node:test';
import { S3ServiceException } from '@aws-sdk/client-s3';
import { ImgstoreError } from '../../src/base/errors.ts';
import { parseRetryAfter, RetryableFault } from '../../src/base/retry.ts';
import { s3Fault } from '../../src/store/s3-fault.ts';
import { parseS3Location } from '../../src/store/s3-location.ts';

const nowMs = Date.parse('2026-01-01T00:00:00Z');
const context = {
  what: 'Cannot read k in the store S',
  location: parseS3Location('s3://bucket/p'),
  nowMs,
};

/** As the SDK makes one from an answer. */
function answer(status: number, name: string, headers: Record<string, string> = {}) {
  const error = new S3ServiceException({
    name,
    message: 'secret',
    $fault: 'client',
    $metadata: { httpStatusCode: status },
  });
  return Object.assign(error, { $response: { statusCode: status, headers } });
}

function faultOf(error: unknown): ImgstoreError {
  const fault = s3Fault(error, context);
  assert.ok(fault instanceof ImgstoreError, String(fault));
  assert.doesNotMatch(`${fault.message} ${fault.hint}`, /secret(?! access key)/);
  assert.ok(fault.message.startsWith(`${context.what}: `));
  return fault;
}

test('what may pass is told from what will not, by status or by code', () => {
  for (const [status, name] of [
    [503, 'SlowDown'],
    [503, 'Unknown'],
    [429, 'TooManyRequests'],
    [500, 'InternalError'],
    [400, 'RequestTimeout'],
    [400, 'BadDigest'],
    [403, 'RequestTimeTooSkewed'],
    [409, 'ConditionalRequestConflict'],
  ] as const) {
    assert.ok(faultOf(answer(status, name)) instanceof RetryableFault, name);
  }
  for (const [status, name, code, hint] of [
    [403, 'AccessDenied', 'IO', /s3:GetObject/],
    [403, 'Unknown', 'IO', /s3:GetObject/],
    [403, 'SignatureDoesNotMatch', 'IO', /secret access key/],
    [400, 'ExpiredToken', 'IO', /Sign in again/],
    [404, 'NoSuchBucket', 'UNAVAILABLE', /Make the bucket/],
    [400, 'EntityTooLarge', 'IO', /EntityTooLarge/],
    [501, 'NotImplemented', 'IO', /NotImplemented/],
  ] as const) {
    const fault = faultOf(answer(status, name));
    assert.ok(!(fault instanceof RetryableFault), name);
    assert.equal(fault.code, code);
    assert.match(fault.hint!, hint);
  }
});

test("a bucket elsewhere names the region, if the answer's is one", () => {
  const hintOf = (region: string) =>
    faultOf(answer(301, 'PermanentRedirect', { 'x-amz-bucket-region': region })).hint;
  assert.equal(hintOf('eu-west-1'), "Add region=eu-west-1 to the store's URL.");
  assert.equal(hintOf('secret&x'), "Add region=REGION to the store's URL.");
});

test("the service's own texts stay out of messages", () => {
  for (const name of ['secret', 'Secret: AKIA', 'X'.repeat(100), '<b>secret</b>', '']) {
    assert.equal(faultOf(answer(418, name)).message, `${context.what}: the service answers 418`);
  }
});

test('settings that do not work are said; a bug stays what it is', () => {
  const region = faultOf(new Error('Region is missing'));
  assert.equal(region.code, 'USAGE');
  const bug = new TypeError('x is not a function');
  assert.equal(s3Fault(bug, context), bug);
});

test('Retry-After is seconds or a date, and nothing else', () => {
  for (const [header, expected] of [
    ['0', 0],
    ['120', 120_000],
    ['Thu, 01 Jan 2026 00:00:30 GMT', 30_000],
    ['Wed, 31 Dec 2025 23:00:00 GMT', 0],
    ['soon', undefined],
    ['1e9', undefined],
    ['9'.repeat(30), undefined],
    ['', undefined],
    [undefined, undefined],
  ] as const) {
    assert.equal(parseRetryAfter(header, nowMs), expected, header);
  }
});
