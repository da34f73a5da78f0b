/**
 * The shape of an index tree, which follows from the number of blocks alone.
 *
 * Level 0 holds pages: the hashes of 1,024 blocks each. A node at level n holds the hashes of 1,024 nodes at level
 * n - 1. The tree ends with the first level that has one node: its level is the height (0, 1 or 2).
 */
import { BLOCK_SIZE_BYTES, INDEX_FANOUT, MAX_IMAGE_BYTES } from '../cluster.ts'

/** The level of the top node of the largest image (8 TiB: 131,072 pages, 128 nodes above them, one top). */
export const MAX_HEIGHT = 2
export const MAX_BLOCKS = MAX_IMAGE_BYTES / BLOCK_SIZE_BYTES

/** How many nodes `level` has. */
export function nodeCount(level: number, blocks: number): number {
  return Math.ceil(blocks / INDEX_FANOUT ** (level + 1))
}

/** How many children the node at `position` of `level` has: 1,024, or fewer in the last one. */
export function childCount(level: number, position: number, blocks: number): number {
  const below = level === 0 ? blocks : nodeCount(level - 1, blocks)
  return Math.min(INDEX_FANOUT, below - position * INDEX_FANOUT)
}

/** The level of the top node. */
export function heightOf(blocks: number): number {
  let height = 0
  while (nodeCount(height, blocks) > 1) height++
  return height
}

/** Where the path to `block` crosses `level`. */
export function positionAt(level: number, block: number): number {
  return Math.floor(block / INDEX_FANOUT ** (level + 1))
}
