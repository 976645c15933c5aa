/**
 * Finds where zstd frames end, without decoding (RFC 8878, section 3.1).
 *
 * Node's decoder ends in silence after the first frame if a write goes on beyond it, yet decodes
 * all frames if every write stops at a frame's end. zstd:chunked, pzstd and seekable layers have
 * thousands of frames, some skippable, so the stream is cut at these ends. The walk also finds
 * truncation, and refuses a window that would make the decoder allocate too much.
 */

import { ImgstoreError } from '../../base/errors.ts';
import { KiB, MiB, zstdWindowMaxBytes } from '../../base/limits.ts';

const frameMagic = 0xfd2fb528;
const skippableMagic = 0x184d2a50;
const skippableMask = 0xfffffff0;
const blockSizeMaxBytes = 128 * KiB;
const checksumSizeBytes = 4;

/** The same bytes; no piece reaches beyond the end of a frame. `label` names them in messages. */
export async function* splitAtFrames(
  pieces: AsyncIterable<Buffer>,
  label: string,
): AsyncGenerator<Buffer, void> {
  const walk = new FrameWalk(label);
  for await (const piece of pieces) {
    let from = 0;
    while (from < piece.length) {
      const to = walk.pass(piece, from);
      yield piece.subarray(from, to);
      from = to;
    }
  }
  walk.finish();
}

type Field = 'magic' | 'descriptor' | 'header' | 'block' | 'skippable-size';

/** Bytes are either a field, gathered until it is whole, or a payload, passed over by its length. */
class FrameWalk {
  readonly #label: string;
  #field: Field = 'magic';
  /** The longest field is the rest of a frame header: window 1, dictionary 4, content size 8. */
  readonly #gathered = Buffer.alloc(13);
  #have = 0;
  #want = 4;
  #payload = 0;
  /** The frame ends with the payload. */
  #last = false;
  #descriptor = 0;

  constructor(label: string) {
    this.#label = label;
  }

  /** Goes on from `from` to the end of the frame or of the piece, whichever comes first. */
  pass(piece: Buffer, from: number): number {
    let at = from;
    while (at < piece.length) {
      if (this.#payload > 0) {
        const length = Math.min(this.#payload, piece.length - at);
        at += length;
        this.#payload -= length;
      } else {
        this.#gathered[this.#have++] = piece[at++]!;
        if (this.#have < this.#want) continue;
        this.#have = 0;
        this.#endField();
      }
      if (this.#last && this.#payload === 0) {
        this.#last = false;
        this.#expect('magic', 4);
        return at;
      }
    }
    return at;
  }

  finish(): void {
    if (this.#field !== 'magic' || this.#have > 0) {
      throw this.#corrupt('it ends in the middle of a zstd frame');
    }
  }

  #expect(field: Field, sizeBytes: number): void {
    this.#field = field;
    this.#want = sizeBytes;
  }

  #endField(): void {
    switch (this.#field) {
      case 'magic':
        this.#magic(this.#gathered.readUInt32LE());
        break;
      case 'descriptor':
        this.#descriptor = this.#gathered[0]!;
        this.#expect('header', headerSizeBytes(this.#descriptor));
        break;
      case 'header':
        this.#header();
        break;
      case 'block':
        this.#block(this.#gathered.readUIntLE(0, 3));
        break;
      case 'skippable-size':
        this.#payload = this.#gathered.readUInt32LE();
        this.#last = true;
    }
  }

  #magic(magic: number): void {
    if (magic === frameMagic) this.#expect('descriptor', 1);
    else if ((magic & skippableMask) >>> 0 === skippableMagic) this.#expect('skippable-size', 4);
    else throw this.#corrupt('what follows its last zstd frame is not one');
  }

  #header(): void {
    const { single, dictionarySize, contentSize } = fieldsOf(this.#descriptor);
    const afterWindow = single ? 0 : 1;
    const dictionary = this.#gathered.subarray(afterWindow, afterWindow + dictionarySize);
    if (dictionary.some(byte => byte !== 0)) {
      throw new ImgstoreError(
        'UNSUPPORTED',
        `Cannot read ${this.#label}: its zstd data needs a dictionary`,
        {
          hint: 'Compress the layer without one.',
        },
      );
    }
    const windowBytes = single
      ? littleEndian(this.#gathered.subarray(dictionarySize, dictionarySize + contentSize))
      : windowSize(this.#gathered[0]!);
    if (windowBytes > zstdWindowMaxBytes) {
      throw new ImgstoreError(
        'LIMIT',
        `Cannot read ${this.#label}: its zstd window is over ${zstdWindowMaxBytes / MiB} MiB`,
        { hint: 'Compress the layer without --long or --ultra.' },
      );
    }
    this.#expect('block', 3);
  }

  #block(header: number): void {
    const type = (header >>> 1) & 3;
    const sizeBytes = header >>> 3;
    if (type === 3 || sizeBytes > blockSizeMaxBytes)
      throw this.#corrupt('its zstd data is damaged');
    this.#last = (header & 1) === 1;
    const { checksum } = fieldsOf(this.#descriptor);
    const storedBytes = type === 1 ? 1 : sizeBytes;
    this.#payload = storedBytes + (this.#last && checksum ? checksumSizeBytes : 0);
  }

  #corrupt(state: string): ImgstoreError {
    return new ImgstoreError('CORRUPT', `Cannot read ${this.#label}: ${state}`, {
      hint: 'It is damaged or incomplete; copy the image again.',
    });
  }
}

interface HeaderFields {
  single: boolean;
  checksum: boolean;
  dictionarySize: number;
  contentSize: number;
}

function fieldsOf(descriptor: number): HeaderFields {
  const single = (descriptor & 0x20) !== 0;
  const contentSizeFlag = descriptor >>> 6;
  return {
    single,
    checksum: (descriptor & 4) !== 0,
    dictionarySize: [0, 1, 2, 4][descriptor & 3]!,
    contentSize: contentSizeFlag === 0 ? (single ? 1 : 0) : 1 << contentSizeFlag,
  };
}

function headerSizeBytes(descriptor: number): number {
  const { single, dictionarySize, contentSize } = fieldsOf(descriptor);
  return (single ? 0 : 1) + dictionarySize + contentSize;
}

function windowSize(byte: number): number {
  const base = 2 ** (10 + (byte >>> 3));
  return base + (base / 8) * (byte & 7);
}

/** Only compared with a limit, so rounding beyond 2^53 does no harm. */
function littleEndian(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}
