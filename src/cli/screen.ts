/**
 * A few lines on a terminal that are drawn over and over in their place. The cursor is hidden until
 * `end`, which leaves the last picture and the cursor below it.
 */

export interface Terminal {
  columns?: number;
  rows?: number;
  write(text: string): unknown;
}

const csi = '\u001b[';
const hideCursor = `${csi}?25l`;
const showCursor = `${csi}?25h`;
const clearScreen = `${csi}2J${csi}H`;
const clearLineEnd = `${csi}K`;
const clearBelow = `${csi}J`;
/** From here on characters may take two columns. */
const wideFrom = 0x1100;

export class Screen {
  readonly #terminal: Terminal;
  /** Of what is drawn; undefined before. */
  #drawn: { lines: number; columns: number } | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Lines that fit: one is left for the cursor. */
  get linesMax(): number {
    return Math.max(1, (this.#terminal.rows || 24) - 1);
  }

  draw(lines: readonly string[]): void {
    const columns = this.#terminal.columns || 80;
    const shown = lines.slice(0, this.linesMax).map(line => clip(line, columns - 1));
    const text = shown.map(line => `${line}${clearLineEnd}\n`).join('');
    this.#terminal.write(`${this.#start(columns)}${text}${clearBelow}`);
    this.#drawn = { lines: shown.length, columns };
  }

  end(): void {
    if (this.#drawn !== undefined) this.#terminal.write(showCursor);
    this.#drawn = undefined;
  }

  #start(columns: number): string {
    if (this.#drawn === undefined) return hideCursor;
    // Lines that were as wide as the terminal was have become two in a narrower one.
    if (this.#drawn.columns !== columns) return clearScreen;
    return this.#drawn.lines === 0 ? '\r' : `\r${csi}${this.#drawn.lines}A`;
  }
}

/** The line without control characters, cut to what fits. */
export function clip(line: string, columns: number): string {
  let clipped = '';
  let width = 0;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: names may hold anything
  for (const character of line.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')) {
    width += character.codePointAt(0)! < wideFrom ? 1 : 2;
    if (width > columns) return clipped;
    clipped += character;
  }
  return clipped;
}
