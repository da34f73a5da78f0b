/**
 * How much a peer weighs for a block: the same on every peer, and for each block another order of peers.
 *
 * Rendezvous hashing (neighbours.ts). Nothing rests on these numbers but who of several neighbours fetches a block first, so they need
 * to be fast and well spread, and no more.
 */

/** A peer's number for its weights: FNV-1a of its id. */
export function seedOf(peer: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < peer.length; i++) hash = Math.imul(hash ^ peer.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** How much a peer weighs for a block: 32 well mixed bits (the finalizer of MurmurHash3). */
export function weightOf(seed: number, block: number): number {
  let hash = Math.imul(seed ^ Math.imul(block + 1, 0x9e3779b1), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
