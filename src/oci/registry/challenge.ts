/**
 * `WWW-Authenticate`: what a registry wants to see before it answers (RFC 9110, 11.6.1). Several
 * challenges may stand in one header, and the comma that parts them also parts their parameters.
 *
 * The header is of the registry's making: it is read in one pass, and reading stops where it is
 * malformed; what was well-formed before that counts.
 */

export interface Challenge {
  /** Lower case. */
  scheme: string;
  /** Names in lower case; of a name that is there twice the first counts. */
  parameters: ReadonlyMap<string, string>;
}

/** More than any registry sends; Node bounds the header's length already. */
const challengesMax = 16;
const parametersMax = 32;

export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  const scan = new Scanner(header);
  for (;;) {
    scan.skip(separators);
    if (scan.atEnd) break;
    const current = challenges.at(-1);
    const parameter = current === undefined ? undefined : scan.take(parameterStart);
    if (current !== undefined && parameter !== undefined) {
      const value = scan.take(token)?.[0] ?? unquoted(scan.take(quotedString)?.[0]);
      if (value === undefined || current.parameters.size === parametersMax) break;
      const name = parameter[1]!.toLowerCase();
      if (!current.parameters.has(name)) current.parameters.set(name, value);
    } else {
      const scheme = scan.take(schemeName)?.[1];
      if (scheme === undefined || challenges.length === challengesMax) break;
      challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
      scan.skip(token68);
    }
  }
  return challenges;
}

const separators = /[ \t,]*/y;
const parameterStart = /([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*=[ \t]*/iy;
/** Some leave out the quotes around what is no token: what ends it is a comma or a blank. */
const token = /[^\s",]+/y;
const quotedString = /"(?:[^"\\]|\\.)*"/y;
const schemeName = /([!#$%&'*+.^_`|~0-9a-z-]+)(?=[ \t,]|$)/iy;
const token68 = /[ \t]+[a-z0-9._~+/-]+=*[ \t]*(?=,|$)/iy;

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  /** What the pattern, which must be sticky, finds here; the scanner moves behind it. */
  take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found;
  }

  skip(pattern: RegExp): void {
    this.take(pattern);
  }
}

function unquoted(text: string | undefined): string | undefined {
  return text?.slice(1, -1).replace(/\\(.)/g, '$1');
}
