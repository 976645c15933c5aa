/**
 * Every limit of this program, with its reason. What comes from a layer, a store, a cache or the
 * kernel is refused beyond these; relations between them are asserted when this module loads.
 */

import { assert } from './assert.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

/** EROFS block, and the alignment of every file in a disk: the page size of x86-64 and most arm64. */
export const blockSizeBytes = 4 * KiB;

/**
 * Chunk sizes of the content-defined cut. Large enough that zstd and a request's fixed cost are
 * spread, small enough that a 4 KiB read does not fetch much besides; the maximum equals the
 * largest read that the kernel sends (FUSE max_pages 256). See docs/format/chunk.md.
 */
export const chunkSizeMinBytes = 64 * KiB;
export const chunkSizeTargetBytes = 256 * KiB;
export const chunkSizeMaxBytes = 1 * MiB;

/** Files below this are packed together, so that a chunk holds many of them. */
export const packedFileSizeMaxBytes = chunkSizeMinBytes;

/** Files up to this live in the inode's own block: no chunk, no 4 KiB block of padding. */
export const inlineFileSizeMaxBytes = 512;

/** Sealing adds a nonce (12), a codec byte and a tag (16); what zstd does not shrink stays plain. */
export const sealedChunkOverheadBytes = 29;
export const sealedChunkSizeMaxBytes = chunkSizeMaxBytes + sealedChunkOverheadBytes;

/** 32-bit block numbers of EROFS. */
export const diskSizeMaxBytes = 16 * TiB;

/** Entries of one image; each costs about 1 KiB of memory while pushing. */
export const treeEntriesMax = 4_000_000;
/** What the entries of one image hold besides their contents: names, targets, xattrs, data runs. */
export const treeMetadataMaxBytes = 1 * GiB;
/** Path components below the root. The kernel's own limit on a path is 4096 bytes. */
export const treeDepthMax = 2048;
export const pathLengthMaxBytes = 4096;
export const nameLengthMaxBytes = 255;
/** Linux: the target of a symlink has at most PATH_MAX - 1 bytes. */
export const symlinkTargetMaxBytes = 4095;
/** Symlinks followed in one path while layers are applied; containerd and runc stop here too. */
export const symlinkHopsMax = 255;
/** Path components that come out of symlinks while one image is applied: some for every entry. */
export const symlinkStepsMax = 64 * 1024 * 1024;
/** Linux: an xattr's full name, its value, and all names of one inode together. */
export const xattrNameMaxBytes = 255;
export const xattrValueMaxBytes = 64 * KiB - 1;
export const xattrsPerInodeMaxBytes = 64 * KiB;

/** OCI: registries accept manifests up to 4 MiB. */
export const manifestSizeMaxBytes = 4 * MiB;
export const configSizeMaxBytes = 8 * MiB;
export const indexDepthMax = 8;
/** Manifests named by one image's indexes together: platforms and attestations, tens in practice. */
export const indexManifestsMax = 1024;
/** `docker save` writes about four members a layer, and may save many images at once. */
export const archiveMembersMax = 65_536;
/** overlayfs gives up at about 500 lower layers; Docker at 127. */
export const layersMax = 1024;
/** A PAX header block or GNU long name of one entry. Go's tar reader stops at 1 MiB as well. */
export const tarSpecialHeaderMaxBytes = 1 * MiB;
/** Data runs of one sparse file. */
export const sparseExtentsMax = 1_000_000;
/**
 * Zeros stored because the holes of sparse files were smaller than the unit of holes, of one image.
 * Nobody sent them, so without a limit some KiB of layer would fill a disk of terabytes.
 */
export const sparseFillMaxBytes = 64 * GiB;
/** A layer may unpack to this much in any case, and beyond it to this multiple of its size. */
export const layerSizeAlwaysAllowedBytes = 16 * GiB;
export const layerExpansionMax = 200;
/** What is noted of one layer for the next push: some 100 bytes an entry. */
export const layerMemoSizeMaxBytes = 256 * MiB;
/** Of all layers, on the disk of who pushes. */
export const layerMemosMaxBytes = 1 * GiB;
/** What a decoder may allocate for a frame: the zstd tool refuses more as well, unless told. */
export const zstdWindowMaxBytes = 128 * MiB;

/** A recipe of a 16 TiB disk would be larger; 64 million chunks are not a container image. */
export const recipeSizeMaxBytes = 1 * GiB;
/** The image config as a JSON string, where quotes and line ends take two bytes, and some fields. */
export const recipeDetailsSizeMaxBytes = 2 * configSizeMaxBytes + 64 * KiB;
export const nameRecordSizeMaxBytes = 64 * KiB;
export const storeDocumentSizeMaxBytes = 64 * KiB;

/** Roots of one store: a collection leaves two or three. */
export const rootsMax = 1000;
/** S3 allows 1024 bytes, of which a bucket's prefix takes some; a file system 255 a part. */
export const objectKeyLengthMaxBytes = 512;
export const objectKeyPartLengthMaxBytes = 255;
/** A temporary file this old has lost its writer: no single object takes a day to write. */
export const leftoverAgeMinMs = 24 * 60 * 60 * 1000;
/** A push tells so often that it goes on; silent for the longer time, it is taken for dead. */
export const leaseRenewalMs = 10 * 60 * 1000;
export const leaseAgeMaxMs = 60 * 60 * 1000;
/** Below this the largest chunks of the worker's cache would push each other out. */
export const diskCacheSizeMinBytes = 16 * sealedChunkSizeMaxBytes;
/** Decoded chunks in memory: those of the largest reads that are answered together. */
export const memoryCacheSizeMinBytes = 16 * chunkSizeMaxBytes;
/**
 * Shards of a chunk in the shared cache: the code is known to work up to these. With more of data,
 * a shard would cost less to send than to ask for.
 */
export const dataShardsMax = 16;
export const parityShardsMax = 4;
/** Each read draws for every node which ones hold its shards: 25 µs for so many. */
export const fleetNodesMax = 256;
/** Sealed chunks held in memory until the worker's cache has written them; more are declined. */
export const cacheWritesPendingMaxBytes = 64 * MiB;

assert(chunkSizeMinBytes < chunkSizeTargetBytes, 'chunk minimum is below the target');
assert(chunkSizeTargetBytes < chunkSizeMaxBytes, 'chunk target is below the maximum');
assert(chunkSizeMinBytes % blockSizeBytes === 0, 'chunk minimum is whole blocks');
assert(chunkSizeMaxBytes % blockSizeBytes === 0, 'chunk maximum is whole blocks');
assert(inlineFileSizeMaxBytes < blockSizeBytes, 'an inline file fits a block');
assert(packedFileSizeMaxBytes <= chunkSizeMaxBytes, 'a packed file fits a chunk');
assert(3 * leaseRenewalMs <= leaseAgeMaxMs, 'a lease outlives a renewal or two that fail');
assert(sealedChunkSizeMaxBytes <= cacheWritesPendingMaxBytes, 'any chunk can be cached');
