/** The images of the corpus, those first that others stand on. */

import type {
  ImageDefinition,
  ImageName,
  OtherVersion,
  VersionDefinition,
  VersionName,
} from './definition.ts';
import { base } from './images/base.ts';
import { big, gcc, go, openjdk, rust } from './images/compilers.ts';
import { postgres, redis } from './images/databases.ts';
import { django, pandas, python, pythonSci, torch } from './images/python.ts';
import { nginx, node, php, ruby } from './images/web.ts';

export type { Hello, ImageName, VersionName } from './definition.ts';

export const definitions: Readonly<Record<ImageName, ImageDefinition>> = {
  base,
  python,
  'python-sci': pythonSci,
  pandas,
  torch,
  django,
  node,
  nginx,
  php,
  ruby,
  redis,
  postgres,
  gcc,
  rust,
  go,
  openjdk,
  big,
};

export const imageNames = Object.keys(definitions) as ImageName[];

export function imageOf(name: VersionName): ImageName {
  return name.split(':', 1)[0] as ImageName;
}

/** Its current version first. */
export function versionsOf(name: ImageName): VersionName[] {
  const others = Object.keys(definitions[name].versions ?? {});
  return [name, ...others.map(version => `${name}:${version}` as const)];
}

export function isVersionName(name: string): name is VersionName {
  const [image = ''] = name.split(':', 1);
  return (
    Object.hasOwn(definitions, image) &&
    versionsOf(image as ImageName).includes(name as VersionName)
  );
}

export function versionDefinition(name: VersionName): VersionDefinition & Partial<OtherVersion> {
  const { current, versions } = definitions[imageOf(name)];
  const version = name === imageOf(name) ? current : versions?.[name.slice(name.indexOf(':') + 1)];
  if (version === undefined) throw new Error(`the corpus has no ${name}`);
  return version;
}
