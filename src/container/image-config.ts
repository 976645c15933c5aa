/**
 * What a runtime needs of an OCI image config. The config is the image author's: every field is
 * checked. Source of the fields: OCI image spec, config.md.
 */

import { ImgstoreError } from '../base/errors.ts';

export interface ImageConfig {
  entrypoint: readonly string[];
  command: readonly string[];
  /** `NAME=value`. */
  environment: readonly string[];
  workingDirectory: string;
  /** `user`, `uid`, `user:group`, … or empty for root. */
  user: string;
}

export function parseImageConfig(configText: string): ImageConfig {
  let document: unknown;
  try {
    document = JSON.parse(configText);
  } catch (cause) {
    throw wrong('it is not JSON', cause);
  }
  const config = isRecord(document) ? (document['config'] ?? {}) : undefined;
  if (!isRecord(config)) throw wrong('it is not an object');
  const workingDirectory = text(config, 'WorkingDir') || '/';
  if (!workingDirectory.startsWith('/')) throw wrong('WorkingDir is not absolute');
  return {
    entrypoint: textList(config, 'Entrypoint'),
    command: textList(config, 'Cmd'),
    environment: textList(config, 'Env').filter(entry => entry.indexOf('=') > 0),
    workingDirectory,
    user: text(config, 'User'),
  };
}

function text(config: Record<string, unknown>, field: string): string {
  const value = config[field] ?? '';
  if (typeof value !== 'string' || value.includes('\0')) throw wrong(`${field} is not a text`);
  return value;
}

function textList(config: Record<string, unknown>, field: string): string[] {
  const value = config[field] ?? [];
  const isText = (item: unknown): item is string =>
    typeof item === 'string' && !item.includes('\0');
  if (!Array.isArray(value) || !value.every(isText)) throw wrong(`${field} is not a list of texts`);
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(state: string, cause?: unknown): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot use the image's config: ${state}`, {
    hint: 'Have the image built again, or push it with a valid config.',
    ...(cause === undefined ? {} : { cause }),
  });
}
