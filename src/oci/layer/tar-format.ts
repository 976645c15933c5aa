/**
 * Where things stand in a tar header: POSIX.1-1988 ustar, its v7 ancestor, and GNU's variant.
 *
 * Sources: POSIX pax "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and
 * "Storing Sparse Files"; star(5) for the star variant of the prefix.
 */

export const blockBytes = 512;

export const nameAt = 0;
export const nameLength = 100;
export const modeAt = 100;
export const modeLength = 8;
export const uidAt = 108;
export const gidAt = 116;
export const idLength = 8;
export const sizeAt = 124;
export const mtimeAt = 136;
export const checksumAt = 148;
export const checksumLength = 8;
export const typeAt = 156;
export const linkNameAt = 157;
export const linkNameLength = 100;
/** `ustar\0` and `00`: POSIX. `ustar ` and ` \0`: GNU. Anything else: v7. */
export const magicAt = 257;
export const magicLength = 8;
export const deviceMajorAt = 329;
export const deviceMinorAt = 337;
export const deviceLength = 8;
/** POSIX only: GNU keeps times and the sparse map here. */
export const prefixAt = 345;
export const prefixLength = 155;
/** star: a shorter prefix, then times, and `tar\0` at the very end. */
export const starPrefixLength = 131;
export const starMagicAt = 508;

/** Sizes, times and sparse offsets. */
export const longNumberLength = 12;

export const gnuAccessTimeAt = 345;
export const gnuChangeTimeAt = 357;
export const gnuSparseMapAt = 386;
export const gnuSparseMapCount = 4;
export const gnuSparseExtendedAt = 482;
export const gnuSparseRealSizeAt = 483;
/** A block that continues the map: pairs from its start, then the flag. */
export const gnuSparseBlockCount = 21;
export const gnuSparseBlockExtendedAt = 504;

export const posixMagic = 'ustar\x0000';
export const gnuMagic = 'ustar  \x00';
export const starMagic = 'tar\x00';

/** Values of the type byte. */
export const tarType = {
  oldFile: 0,
  file: 0x30,
  hardLink: 0x31,
  symlink: 0x32,
  characterDevice: 0x33,
  blockDevice: 0x34,
  directory: 0x35,
  fifo: 0x36,
  contiguousFile: 0x37,
  paxLocal: 0x78,
  paxGlobal: 0x67,
  gnuLongName: 0x4c,
  gnuLongLink: 0x4b,
  gnuSparse: 0x53,
} as const;
