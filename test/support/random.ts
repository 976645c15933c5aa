/**
 * Random values that a seed repeats. A test that fails names its seed:
 * `for (const random of seeded(100)) check(random, random.seed)`.
 */

export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed >>> 0;
  }

  /** 0 to 2^32 - 1: a counter put through the finaliser of MurmurHash3. */
  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  }

  /** 0 to below `end`, which is at most 2^32. */
  below(end: number): number {
    return Math.floor((this.u32() / 2 ** 32) * end);
  }

  /** `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  bytes(sizeBytes: number): Buffer {
    const bytes = Buffer.alloc(sizeBytes);
    for (let i = 0; i < sizeBytes; i += 4) {
      const word = this.u32();
      for (let j = i; j < Math.min(i + 4, sizeBytes); j++) bytes[j] = word >>> (8 * (j - i));
    }
    return bytes;
  }

  text(length: number, alphabet: string): string {
    let text = '';
    for (let i = 0; i < length; i++) text += alphabet[this.below(alphabet.length)];
    return text;
  }
}

/** `count` generators with seeds `from`, `from` + 1, … */
export function* seeded(count: number, from = 1): Generator<Random> {
  for (let seed = from; seed < from + count; seed++) yield new Random(seed);
}
