/**
 * Dedup domains: groups of pushers that share a salt, and so chunks. A domain has a name, a secret,
 * and perhaps epochs: spans of whole days (UTC) after each of which its salt is another one.
 */

import { assert } from '../base/assert.ts';
import { ImgstoreError } from '../base/errors.ts';
import type { DedupSalt, DomainSecret } from './keys.ts';

/** It is a part of file names, and of a salt's label: no separator of either occurs in it. */
export const domainNamePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;
/** Ten years: a longer one is no rotation. */
export const epochDaysMax = 3650;
const dayMs = 24 * 60 * 60 * 1000;

export interface Domain {
  name: string;
  /** Undefined: one salt for as long as the secret lives. */
  epochDays: number | undefined;
}

/** Errors: USAGE. */
export function checkDomainName(name: string): string {
  if (name === 'default' || !domainNamePattern.test(name)) {
    const hint =
      name === 'default'
        ? 'Leave --domain out: that is the default domain.'
        : 'A name is 1 to 63 of a-z, 0-9 and "-", and begins with none of the last.';
    throw new ImgstoreError('USAGE', `Cannot use ${JSON.stringify(name)} as a dedup domain`, {
      hint,
    });
  }
  return name;
}

/** The epoch that a time is in, counted from 1970. */
export function epochAt({ epochDays }: Domain, now: Date): number | undefined {
  if (epochDays === undefined) return undefined;
  assert(Number.isInteger(epochDays) && epochDays >= 1, 'an epoch has whole days');
  return Math.max(0, Math.floor(now.getTime() / dayMs / epochDays));
}

export function saltAt(domain: Domain, secret: DomainSecret, now: Date): DedupSalt {
  return secret.salt(domain.name, epochAt(domain, now));
}
