/**
 * `NAME[:TAG]`: what people call an image. The grammar is that of OCI references without digests,
 * in lower case throughout: `[HOST[:PORT]/]COMPONENT[/COMPONENT…][:TAG]`. docs/format/name.md.
 *
 * Invariants: an ImageName from parseImageName fits the grammar; one image name has one text and
 * one object key, and neither is that of another.
 */

import { isHexDigest, parseRecipeId, type RecipeId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';

export interface ImageName {
  /** Without the tag. */
  name: string;
  tag: string;
}

export const defaultTag = 'latest';
/** A name as readers give it, with what it has to mean. */
export interface ImageReference extends ImageName {
  /** The only recipe that the name may mean: what holds off who rolls a name back. */
  pinned?: RecipeId;
}

/** As the distribution project limits them. */
export const imageNameLengthMax = 255;

const component = /^[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*$/;
const host = /^[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::[0-9]{1,5})?$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/** The tag defaults to `latest`. Errors: USAGE. */
export function parseImageName(text: string): ImageName {
  const slash = text.lastIndexOf('/');
  const colon = text.indexOf(':', slash + 1);
  const name = colon === -1 ? text : text.slice(0, colon);
  const tag = colon === -1 ? defaultTag : text.slice(colon + 1);
  const problem = nameProblem(name) ?? tagProblem(tag);
  if (problem !== undefined) {
    throw new ImgstoreError('USAGE', `Cannot use ${JSON.stringify(clipped(text))}: ${problem}`, {
      hint: 'A name looks like debian, library/debian:12 or registry.example:5000/team/app:1.0.',
    });
  }
  return { name, tag };
}

/** `NAME[:TAG][@RECIPE]`. Errors: USAGE. */
export function parseImageReference(text: string): ImageReference {
  const at = text.lastIndexOf('@');
  if (at === -1) return parseImageName(text);
  const id = text.slice(at + 1);
  if (isHexDigest(id)) return { ...parseImageName(text.slice(0, at)), pinned: parseRecipeId(id) };
  throw new ImgstoreError(
    'USAGE',
    `Cannot use ${JSON.stringify(clipped(text))}: what follows the @ is not a recipe id`,
    { hint: 'imgstore inspect shows it: 64 hexadecimal digits.' },
  );
}

/** `NAME:TAG`: parseImageName reads it back. */
export function formatImageName({ name, tag }: ImageName): string {
  return `${name}:${tag}`;
}

function nameProblem(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.length > imageNameLengthMax)
    return `the name has more than ${imageNameLengthMax} characters`;
  if (name.includes('@')) return 'a digest is not part of a name here';
  if (/[A-Z]/.test(name)) return 'a name is in lower case';
  const [first, ...rest] = name.split('/');
  const wrong = rest.find(part => !component.test(part));
  if (wrong !== undefined) return `${JSON.stringify(clipped(wrong))} is not a part of a name`;
  // With a host in front there is something behind it; whether it is one makes no difference here.
  const fits = component.test(first!) || (rest.length > 0 && host.test(first!));
  return fits ? undefined : `${JSON.stringify(clipped(first!))} is not a part of a name`;
}

function tagProblem(tag: string): string | undefined {
  return tagPattern.test(tag) ? undefined : 'the tag is not 1 to 128 of A-Z a-z 0-9 _ . -';
}

function clipped(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 80)}…`;
}

/**
 * The key of a name's record: the name as it is, with a port's colon as `%3A`, then the tag behind
 * an `@`. Neither `%` nor `@` occurs in a name, so no two names share a key, and no record's key is
 * a folder of another's.
 */
export function nameObjectKey({ name, tag }: ImageName): string {
  return `${name.replace(':', '%3A')}/@${tag}`;
}

/** The reverse; undefined if no name has this key. */
export function nameOfObjectKey(key: string): ImageName | undefined {
  const at = key.lastIndexOf('/@');
  if (at === -1) return undefined;
  const found = { name: key.slice(0, at).replace('%3A', ':'), tag: key.slice(at + 2) };
  if (nameProblem(found.name) !== undefined || tagProblem(found.tag) !== undefined)
    return undefined;
  return nameObjectKey(found) === key ? found : undefined;
}
