/**
 * `s3://BUCKET/PREFIX?endpoint=URL&region=REGION`: where a store in S3 is. The prefix is taken as it
 * is written, nothing in it is an escape. Messages never repeat what could not be understood, since
 * people write keys into URLs.
 */

import { ImgstoreError } from '../base/errors.ts';
import { objectKeyLengthMaxBytes } from '../base/limits.ts';
import { isObjectKey } from './object-key.ts';

export interface S3Location {
  readonly bucket: string;
  /** '' or a key. */
  readonly prefix: string;
  /** Undefined: what the AWS SDK is configured for, in the end Amazon's. */
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
}

const urlPattern = /^s3:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i;
const bucketPattern = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const regionPattern = /^[A-Za-z0-9-]{1,64}$/;
const hint =
  'Write s3://BUCKET/PREFIX, or s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=REGION.';

/**
 * `endpointDefault` is for a URL without one; '' is none. Errors: USAGE with what is wrong.
 */
export function parseS3Location(url: string, endpointDefault = ''): S3Location {
  const match = urlPattern.exec(url);
  if (match === null) throw wrong('it is not of the form s3://BUCKET/PREFIX');
  const [, bucket = '', path = '', query = ''] = match;
  if (!bucketPattern.test(bucket)) {
    throw wrong('the bucket is not named by 3 to 63 of a-z, 0-9, - and .');
  }
  if (bucket.endsWith('--x-s3')) {
    throw wrong('a directory bucket (S3 Express One Zone) has sessions of its own: not supported');
  }
  const prefix = path.replace(/\/$/, '');
  // With a slash and a key it stays below the 1024 bytes that S3 allows.
  if (prefix !== '' && !isObjectKey(prefix)) {
    throw wrong(`the prefix is not a key of at most ${objectKeyLengthMaxBytes} bytes`);
  }
  return { bucket, prefix, ...parametersOf(query, endpointDefault) };
}

function parametersOf(
  query: string,
  endpointDefault: string,
): Pick<S3Location, 'endpoint' | 'region'> {
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (name !== 'endpoint' && name !== 'region') {
      throw wrong('it has a parameter that is neither endpoint nor region');
    }
    if (parameters.getAll(name).length > 1) throw wrong(`${name} is given twice`);
  }
  const region = parameters.get('region') ?? undefined;
  if (region !== undefined && !regionPattern.test(region)) throw wrong('region is not a region');
  const given = parameters.get('endpoint');
  // An unset variable in a script must not lead to Amazon.
  if (given === '') throw wrong('endpoint is empty');
  const endpoint = given ?? endpointDefault;
  return { region, endpoint: endpoint === '' ? undefined : checkedEndpoint(endpoint) };
}

function checkedEndpoint(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw wrong('endpoint is not an http or https URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw new ImgstoreError('USAGE', 'Cannot open a store in S3: endpoint holds credentials', {
      hint: 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, instead.',
    });
  }
  if (url.search !== '' || url.hash !== '') throw wrong('endpoint has a query or a fragment');
  return url.href.replace(/\/$/, '');
}

/** The URL that names it again. */
export function formatS3Location({ bucket, prefix, endpoint, region }: S3Location): string {
  const parameters = [
    ...(endpoint === undefined ? [] : [`endpoint=${endpoint}`]),
    ...(region === undefined ? [] : [`region=${region}`]),
  ];
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`;
  return `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}${query}`;
}

function wrong(state: string): ImgstoreError {
  return new ImgstoreError('USAGE', `Cannot open a store in S3: ${state}`, { hint });
}
