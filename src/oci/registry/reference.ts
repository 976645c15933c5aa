/**
 * `docker://HOST/REPO[:TAG][@DIGEST]`, by the grammar of github.com/distribution/reference, so that
 * one text means the same image here as for docker, podman and skopeo.
 */

import { type OciDigest, parseOciDigest } from '../../base/digest.ts';
import { ImgstoreError } from '../../base/errors.ts';

export interface RegistryReference {
  /** `docker.io`, `ghcr.io`, `localhost:5000`, `[::1]:5000`: as credentials are filed. */
  host: string;
  /** `library/busybox` */
  repository: string;
  /** What to ask for: the digest if there is one, which makes a tag beside it a remark. */
  wanted: { tag: string } | { digest: OciDigest };
}

export const dockerHub = 'docker.io';

/** distribution/reference: of host and repository together. */
const nameLengthMax = 255;
/** Far more than any valid reference; what is longer need not be looked at. */
const referenceLengthMax = 1024;

const hostPattern = /^(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*\.?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/i;
/** Each separator stands between two runs, so there is one way to match: linear. */
const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;

/** `details` is what stands behind `docker:`. USAGE if malformed, UNSUPPORTED for other digests. */
export function parseRegistryReference(details: string): RegistryReference {
  if (!details.startsWith('//') || details.length > referenceLengthMax) {
    throw malformed(details, 'it is not of the form docker://HOST/REPO[:TAG|@DIGEST]');
  }
  const { name, digest } = splitDigest(details, details.slice('//'.length));
  const colon = name.indexOf(':', name.lastIndexOf('/') + 1);
  const path = colon === -1 ? name : name.slice(0, colon);
  const tag = colon === -1 ? undefined : name.slice(colon + 1);
  if (tag !== undefined && !tagPattern.test(tag)) {
    throw malformed(details, 'its tag is not of letters, digits, dots, dashes and underscores');
  }
  const { host, repository } = splitHost(path);
  if (!hostPattern.test(host) || Number(/:([0-9]+)$/.exec(host)?.[1] ?? 0) > 65_535) {
    throw malformed(details, 'its host is malformed');
  }
  const components = repository.split('/');
  if (!components.every(each => componentPattern.test(each))) {
    throw malformed(details, 'its repository is malformed; it is lower case');
  }
  if (host.length + 1 + repository.length > nameLengthMax) {
    throw malformed(details, `its name is longer than ${nameLengthMax} characters`);
  }
  return { host, repository, wanted: digest === undefined ? { tag: tag ?? 'latest' } : { digest } };
}

function splitDigest(
  details: string,
  text: string,
): { name: string; digest: OciDigest | undefined } {
  const at = text.indexOf('@');
  if (at === -1) return { name: text, digest: undefined };
  const digest = text.slice(at + 1);
  try {
    return { name: text.slice(0, at), digest: parseOciDigest(digest) };
  } catch (error) {
    const isOther = error instanceof ImgstoreError && error.code === 'UNSUPPORTED';
    // Only the name of the algorithm is repeated: see malformed().
    const algorithm = /^sha(?:384|512)(?=:)/.exec(digest)?.[0];
    if (!isOther || algorithm === undefined) {
      throw malformed(details, 'what stands behind @ is not a digest sha256:HEX');
    }
    throw new ImgstoreError(
      'UNSUPPORTED',
      `Cannot open an image by its ${algorithm}: not supported`,
      {
        hint: 'Name it by its tag or its sha256.',
      },
    );
  }
}

/** The first part is a host if it looks like one, as `docker pull` decides it. */
function splitHost(path: string): { host: string; repository: string } {
  const slash = path.indexOf('/');
  const first = path.slice(0, Math.max(0, slash));
  const isHost = first === 'localhost' || /[.:A-Z]/.test(first);
  const host = slash !== -1 && isHost ? first : dockerHub;
  const repository = slash !== -1 && isHost ? path.slice(slash + 1) : path;
  if (host !== dockerHub && host !== `index.${dockerHub}`) return { host, repository };
  const official = !repository.includes('/');
  return { host: dockerHub, repository: official ? `library/${repository}` : repository };
}

function malformed(details: string, state: string): ImgstoreError {
  // What stands before an @ may be a user and a password, as in other URLs.
  const shown = details.includes('@') ? 'docker://…' : `docker:${details.slice(0, 300)}`;
  return new ImgstoreError('USAGE', `Cannot open ${JSON.stringify(shown)}: ${state}`, {
    hint: 'Write docker://HOST/REPO[:TAG|@DIGEST]; credentials are read from the files of docker login.',
  });
}
