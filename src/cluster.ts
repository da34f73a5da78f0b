/**
 * What every peer of a network must agree on.
 *
 * These are part of the protocol, not settings: a peer with another value could not talk to the others, so a change
 * here is, from the first release on, a new version in the protocol ids below. What a peer may choose for itself is in node/settings.ts.
 */

/** The unit of hashing, transfer and caching. */
export const BLOCK_SIZE_BYTES = 64 * 1024

/** SHA-256 of the plain bytes identifies a block, an index node and an image. */
export const HASH_NAME = 'sha256'
export const HASH_SIZE_BYTES = 32

/** Children of one node of an index tree: a page covers 1,024 blocks, a node above it 1,024 nodes of the level below. */
export const INDEX_FANOUT = 1024

/** 8 TiB, the largest image. */
export const MAX_IMAGE_BYTES = 8 * 1024 ** 4

/** Images up to this size are opened with their whole index in the first answer (4 GiB, 64 pages). */
export const EAGER_INDEX_IMAGE_BYTES = 4 * 1024 ** 3

/** Peers closest to a key that keep its directory records. */
export const HOLDERS_PER_KEY = 20

export const PROTOCOL = {
  dht: '/rowan/kad/1.0.0',
  directory: '/rowan/directory/1.0.0',
  blocks: '/rowan/blocks/1.0.0',
  muxer: '/rowan/yamux/1.0.0',
  /** Says nothing but that who speaks it is a relay that carries blocks. */
  blocksRelay: '/rowan/blocks-relay/1.0.0'
} as const

/** Every stream's first window: blocks flow at full speed from the first round trip on. */
export const INITIAL_STREAM_WINDOW_BYTES = 4 * 1024 * 1024
export const MAX_STREAM_WINDOW_BYTES = 16 * 1024 * 1024
