/** The details of a recipe as JSON: fields in one order, so that equal details are equal bytes. */

import { ImgstoreError } from '../base/errors.ts';
import { domainNamePattern } from '../keys/domain.ts';
import type { Platform, RecipeDetails } from './recipe.ts';

type Fields<T> = { readonly [K in keyof T]?: unknown };

export function encodeDetails(details: RecipeDetails): Buffer {
  const { kind, manifestDigest, platform, configText, inodeCount, contentBytes } = details;
  const { pipeline, saltId, saltDomain, saltEpoch } = details;
  const ordered: RecipeDetails = {
    kind,
    ...(manifestDigest !== undefined && { manifestDigest }),
    ...(platform !== undefined && { platform: orderedPlatform(platform) }),
    ...(configText !== undefined && { configText }),
    ...(inodeCount !== undefined && { inodeCount }),
    ...(contentBytes !== undefined && { contentBytes }),
    pipeline,
    saltId,
    ...(saltDomain !== undefined && { saltDomain }),
    ...(saltEpoch !== undefined && { saltEpoch }),
  };
  return Buffer.from(JSON.stringify(ordered), 'utf8');
}

function orderedPlatform({ os, architecture, variant }: Platform): Platform {
  return { os, architecture, ...(variant !== undefined && { variant }) };
}

/** Unknown fields are left out. Errors: CORRUPT. */
export function decodeDetails(bytes: Buffer): RecipeDetails {
  const fields = objectOf<RecipeDetails>(parseJson(bytes.toString('utf8')));
  const { kind, manifestDigest, platform, configText, inodeCount, contentBytes } = fields;
  const { saltDomain, saltEpoch } = fields;
  if (kind !== 'oci' && kind !== 'disk') throw wrong('kind');
  return {
    kind,
    ...(manifestDigest !== undefined && { manifestDigest: text(manifestDigest, 'manifestDigest') }),
    ...(platform !== undefined && { platform: decodePlatform(platform) }),
    ...(configText !== undefined && { configText: text(configText, 'configText') }),
    ...(inodeCount !== undefined && { inodeCount: count(inodeCount, 'inodeCount') }),
    ...(contentBytes !== undefined && { contentBytes: count(contentBytes, 'contentBytes') }),
    pipeline: text(fields.pipeline, 'pipeline'),
    saltId: text(fields.saltId, 'saltId'),
    ...(saltDomain !== undefined && { saltDomain: domainName(saltDomain) }),
    ...(saltEpoch !== undefined && { saltEpoch: count(saltEpoch, 'saltEpoch') }),
  };
}

function decodePlatform(value: unknown): Platform {
  const { os, architecture, variant } = objectOf<Platform>(value);
  return {
    os: text(os, 'os'),
    architecture: text(architecture, 'architecture'),
    ...(variant !== undefined && { variant: text(variant, 'variant') }),
  };
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new ImgstoreError('CORRUPT', 'Cannot read the details of a recipe: they are not JSON');
  }
}

function objectOf<T>(value: unknown): Fields<T> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('object');
  return value as Fields<T>;
}

function text(value: unknown, field: string): string {
  if (typeof value !== 'string') throw wrong(field);
  return value;
}

/** It becomes part of a path where a repair looks for the domain's secret. */
function domainName(value: unknown): string {
  const name = text(value, 'saltDomain');
  if (!domainNamePattern.test(name)) throw wrong('saltDomain');
  return name;
}

function count(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw wrong(field);
  return value;
}

function wrong(field: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read the details of a recipe: wrong ${field}`);
}
