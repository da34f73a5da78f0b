/**
 * Blocks on their way into the pool: how they are named, and how they are grouped to be written.
 */
import { BLOCK_SIZE_BYTES, HASH_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import type { Hash } from '../image/hash.ts'

/** A block as its hash and its 64 KiB. */
export interface HashedBlock {
  hash: Hash
  block: Uint8Array
}

/** A block with the slot that was reserved for it. */
export interface PendingBlock extends HashedBlock {
  key: string
  slot: number
}

/** The text of a block's hash. Throws BLOCK_INVALID for what cannot be a block. */
export function keyOf({ hash, block }: HashedBlock): string {
  if (hash.byteLength !== HASH_SIZE_BYTES || block.byteLength !== BLOCK_SIZE_BYTES) {
    throw new RowanError('BLOCK_INVALID', `a block of ${block.byteLength} bytes with a hash of ${hash.byteLength}`)
  }
  return hashKey(hash)
}

/** The text of a hash, as a key of a Map or a Set. */
function hashKey(hash: Hash): string {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1')
}

/** Blocks whose slots follow each other, to be written in one go. */
export function* runsOf(blocks: readonly PendingBlock[]): Iterable<PendingBlock[]> {
  let run: PendingBlock[] = []
  for (const block of blocks) {
    if (run.length > 0 && run.at(-1)!.slot + 1 !== block.slot) {
      yield run
      run = []
    }
    run.push(block)
  }
  if (run.length > 0) yield run
}
