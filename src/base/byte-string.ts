/**
 * File names, symlink targets and xattr names are bytes, not text. They are kept as strings with
 * one character (0 to 255) a byte: cheap as map keys, and `<` on them is the order of memcmp,
 * which EROFS directories need. Never mix them with decoded text.
 */

declare const brand: unique symbol;
export type ByteString = string & { readonly [brand]: 'bytes' };

export function byteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(
    'latin1',
  ) as ByteString;
}

/** The bytes of a text as UTF-8. */
export function byteStringOfText(text: string): ByteString {
  return byteString(Buffer.from(text, 'utf8'));
}

export function bytesOf(value: ByteString): Buffer {
  return Buffer.from(value, 'latin1');
}

/** For messages: UTF-8 where it is, escapes where it is not, and nothing that steers a terminal. */
export function printable(value: ByteString): string {
  const text = bytesOf(value).toString('utf8');
  const faithful = Buffer.from(text, 'utf8').toString('latin1') === value;
  const shown = faithful ? text : value;
  const quoted = JSON.stringify(shown).slice(1, -1);
  const unsafe = faithful ? /[\u007f-\u009f]/g : /[\u007f-\u00ff]/g;
  return quoted.replace(unsafe, c => `\\x${hexByte(c)}`);
}

function hexByte(c: string): string {
  return c.charCodeAt(0).toString(16).padStart(2, '0');
}
