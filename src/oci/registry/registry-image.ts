/**
 * `docker://HOST/REPO[:TAG][@DIGEST]`: an image in a registry.
 *
 * Opening it fetches the manifest (and, of a multi-platform image, that of the platform) and the
 * config, each once. Layers are fetched when they are read.
 */

import { openBlobImage } from '../source/blob-image.ts';
import { type SelectOptions, selectManifest } from '../source/select.ts';
import type { SourceImage } from '../source-image.ts';
import { registryUrl } from './endpoint.ts';
import { parseRegistryReference } from './reference.ts';
import { type RegistryOptions, RegistrySource } from './registry-source.ts';

export async function openRegistryImage(
  reference: string,
  details: string,
  options: SelectOptions & RegistryOptions,
): Promise<SourceImage> {
  const name = parseRegistryReference(details);
  const base = await registryUrl(name.host, { plainHttp: options.plainHttp === true });
  const source = new RegistrySource(reference, name, base, options);
  try {
    const root = await source.openRoot();
    return await openBlobImage(source, await selectManifest(source, [root], options), options);
  } catch (error) {
    await source.close();
    throw error;
  }
}
