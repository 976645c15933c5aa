/** The one way into this folder: a reference, as the user writes it, to an image. */

import { ImgstoreError } from '../../base/errors.ts';
import { openRegistryImage } from '../registry/registry-image.ts';
import type { SourceImage } from '../source-image.ts';
import { openDockerArchive } from './docker-archive.ts';
import { openOciLayout } from './oci-layout.ts';
import { platformWish } from './platform.ts';

export interface SourceOptions {
  /** `os/arch[/variant]`; the machine's own by default. */
  platform?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Speak plain HTTP to the registry; by default that is done on loopback only. */
  plainHttp?: boolean | undefined;
  /** Where credentials of registries and proxies are named; the process's own by default. */
  env?: NodeJS.ProcessEnv | undefined;
  /** A config that may be the image's: it is not read again if it has the digest that is named. */
  knownConfig?: string | undefined;
}

const supported =
  'Use oci:DIR[:TAG], docker-archive:FILE[:REF] or docker://HOST/REPO[:TAG|@DIGEST]; disk:FILE for a raw disk.';

/**
 * Opens `oci:DIR[:TAG]`, `docker-archive:FILE[:REF]` or `docker://HOST/REPO[:TAG|@DIGEST]`: documents
 * verified, layers there by size. USAGE for what is no such reference or means several images,
 * NOT_FOUND if the image or platform is not there, CORRUPT, UNSUPPORTED, LIMIT or IO for what it is
 * made of, UNAVAILABLE if a registry does not answer.
 */
export async function openSource(
  reference: string,
  options: SourceOptions = {},
): Promise<SourceImage> {
  const { signal, plainHttp, knownConfig, env = process.env } = options;
  signal?.throwIfAborted();
  const wish = platformWish(options.platform);
  const colon = reference.indexOf(':');
  const details = reference.slice(colon + 1);
  switch (colon === -1 ? undefined : reference.slice(0, colon)) {
    case 'oci':
      return openOciLayout(reference, details, { wish, signal, knownConfig });
    case 'docker-archive':
      return openDockerArchive(reference, details, { wish, signal, knownConfig });
    case 'docker':
      return openRegistryImage(reference, details, { wish, signal, knownConfig, plainHttp, env });
    case 'disk':
      throw new ImgstoreError('USAGE', `Cannot open ${reference}: a raw disk is not an image`, {
        hint: supported,
      });
    default:
      throw new ImgstoreError(
        'USAGE',
        `Cannot open ${JSON.stringify(reference)}: it names no known transport`,
        { hint: supported },
      );
  }
}
