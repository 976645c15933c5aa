import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { formatS3Location, parseS3Location } from '../../src/store/s3-location.ts';

test('bucket, prefix, endpoint and region, each written again as it was', () => {
  const bucket = 'my.bucket-1';
  for (const [url, expected] of [
    ['s3://my.bucket-1', {}],
    ['s3://my.bucket-1/a/b%20~+', { prefix: 'a/b%20~+' }],
    ['s3://my.bucket-1?region=eu-central-1', { region: 'eu-central-1' }],
    [
      's3://my.bucket-1/p?endpoint=https://[::1]:9000/s3&region=x',
      { prefix: 'p', endpoint: 'https://[::1]:9000/s3', region: 'x' },
    ],
  ] as const) {
    const location = parseS3Location(url);
    const all = { bucket, prefix: '', endpoint: undefined, region: undefined, ...expected };
    assert.deepEqual(location, all);
    assert.equal(formatS3Location(location), url);
  }
  assert.equal(parseS3Location('S3://my.bucket-1/').prefix, '');
  assert.equal(
    parseS3Location('s3://abc/p/?endpoint=http%3A%2F%2Fh%3A1%2F').endpoint,
    'http://h:1',
  );
});

test('an endpoint of the surroundings is for URLs without one', () => {
  const endpoint = (url: string) => parseS3Location(url, 'http://default').endpoint;
  assert.equal(endpoint('s3://abc'), 'http://default');
  assert.equal(endpoint('s3://abc?endpoint=http://own'), 'http://own');
  assert.throws(() => parseS3Location('s3://abc', 'nonsense'), ImgstoreError);
});

test('what is wrong is USAGE, and is not repeated', () => {
  for (const url of [
    's3:bucket',
    's3://',
    's3:///secret',
    's3://AKIA:secret@bucket/x',
    's3://Bucket',
    's3://ab',
    `s3://${'b'.repeat(64)}`,
    's3://bucket//secret',
    's3://bucket/../secret',
    's3://bucket/a secret',
    `s3://bucket/${'secret/'.repeat(80)}`,
    's3://bucket/x#secret',
    's3://bucket?secret=1',
    's3://bucket?endpoint=http://a&endpoint=http://secret',
    's3://bucket?endpoint=secret:9000',
    's3://bucket?endpoint=ftp://secret',
    's3://bucket?endpoint=http://key:secret@host',
    's3://bucket?endpoint=http://host/?secret',
    's3://bucket?region=secret/..',
    's3://secret--use1-az4--x-s3',
  ]) {
    assert.throws(
      () => parseS3Location(url),
      (error: unknown) => {
        assert.ok(error instanceof ImgstoreError, url);
        assert.equal(error.code, 'USAGE');
        assert.doesNotMatch(error.message, /secret|AKIA/);
        return true;
      },
    );
  }
});
