/** CRC-32C (Castagnoli) as EROFS uses it: starts with all ones and is *not* inverted at the end. */

const polynomialReflected = 0x82f63b78;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++)
    remainder = (remainder >>> 1) ^ (remainder & 1 ? polynomialReflected : 0);
  return remainder;
});

/** The complement of this is the CRC-32C of other formats ("123456789" gives 0xE3069283). */
export function crc32cUninverted(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return crc >>> 0;
}
