/** What a scrub finds, as many of each kind as people read; the rest is counted. */

import type { RootId } from '../store/format.ts';

export interface ScrubFault {
  what: 'chunk' | 'recipe' | 'name';
  state: 'damaged' | 'missing';
  /** Of the object, in the whole store. */
  key: string;
  /** Undefined for a name, which lies in no root. */
  root: RootId | undefined;
  problem: string;
  /** Names whose recipe this is or needs; at most `namesMax`. None: nothing that is named is hurt. */
  names: string[];
}

const faultsMax = 10_000;
const foreignMax = 100;
const namesMax = 100;

export class ScrubFindings {
  readonly faults: ScrubFault[] = [];
  faultCount = 0;
  /** Keys of objects that are none of ours. */
  readonly foreign: string[] = [];
  foreignCount = 0;

  /** The fault as it is kept, if it is. */
  fault(fault: Omit<ScrubFault, 'names'>, names: readonly string[] = []): ScrubFault | undefined {
    this.faultCount++;
    if (this.faults.length >= faultsMax) return undefined;
    const kept: ScrubFault = { ...fault, names: names.slice(0, namesMax) };
    this.faults.push(kept);
    return kept;
  }

  foreignObject(key: string): void {
    this.foreignCount++;
    if (this.foreign.length < foreignMax) this.foreign.push(key);
  }

  /** Everything that another one found. */
  merge(other: ScrubFindings): void {
    this.faults.push(...other.faults.slice(0, faultsMax - this.faults.length));
    this.faultCount += other.faultCount;
    this.foreign.push(...other.foreign.slice(0, foreignMax - this.foreign.length));
    this.foreignCount += other.foreignCount;
  }
}

export function addNames(fault: ScrubFault, names: readonly string[]): void {
  fault.names.push(...names.slice(0, namesMax - fault.names.length));
}
