/**
 * Builds the index of an image from its block hashes, in order, in one pass and bounded memory.
 *
 * One node of each level is open. A full node is closed only when something comes behind it, because until then it may
 * be the top. A run of zeros that covers whole subtrees goes straight to the level above as absent children, so a
 * sparse image costs nothing for its holes: 8 TiB of zeros are 128 steps.
 */
import { HASH_SIZE_BYTES, INDEX_FANOUT } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import { blockCount } from './block.ts'
import { MAX_BLOCKS, MAX_HEIGHT } from './geometry.ts'
import { type Hash, sha256 } from './hash.ts'
import { encodeImageRoot, type ImageRoot, imageIdOf, makeImageRoot } from './image-root.ts'
import { encodePacked } from './index-node.ts'

interface OpenNode {
  /** Children so far, absent ones included. */
  children: number
  present: Uint8Array<ArrayBuffer>
  /** The hashes of the `presentCount` children that are not all zero, packed. */
  hashes: Uint8Array<ArrayBuffer>
  presentCount: number
}

export class IndexBuilder {
  readonly #emit: (hash: Hash, nodeBytes: Uint8Array) => void
  readonly #open: OpenNode[] = Array.from({ length: MAX_HEIGHT + 1 }, () => ({
    children: 0,
    present: new Uint8Array(INDEX_FANOUT / 8),
    hashes: new Uint8Array(INDEX_FANOUT * HASH_SIZE_BYTES),
    presentCount: 0
  }))
  #blocks = 0
  #zeroBlocks = 0

  /** @param emit - takes every node once it is complete, children before parents; the bytes are its own to keep */
  constructor(emit: (hash: Hash, nodeBytes: Uint8Array) => void) {
    this.#emit = emit
  }

  /** How many blocks came so far. */
  get blocks(): number {
    return this.#blocks
  }

  /** The next block has this hash (copied). */
  add(hash: Hash): void {
    this.#count(1)
    this.#addChild(0, hash)
  }

  /** The next `count` blocks are all zero. */
  addZero(count = 1): void {
    this.#count(count)
    this.#zeroBlocks += count
    this.#addAbsent(0, count)
  }

  /**
   * Closes the index. Throws INDEX_INVALID if as many blocks as `sizeBytes` has did not come. The builder is used up.
   */
  finish(sizeBytes: number): { id: string; root: ImageRoot; rootBytes: Uint8Array } {
    if (blockCount(sizeBytes) !== this.#blocks) {
      throw new RowanError('INDEX_INVALID', `${this.#blocks} blocks came for an image of ${sizeBytes} bytes`)
    }
    const { height } = makeImageRoot(sizeBytes, this.#blocks, undefined)
    for (let level = 0; level < height; level++) {
      if (this.#open[level]!.children > 0) this.#addChild(level + 1, this.#close(level))
    }
    const root = makeImageRoot(sizeBytes, this.#zeroBlocks, this.#close(height))
    const rootBytes = encodeImageRoot(root)
    return { id: imageIdOf(rootBytes), root, rootBytes }
  }

  #count(count: number): void {
    if (!Number.isSafeInteger(count) || count < 0 || this.#blocks + count > MAX_BLOCKS) {
      throw new RowanError('INDEX_INVALID', `an index has at most ${MAX_BLOCKS} blocks, not ${this.#blocks} + ${count}`)
    }
    this.#blocks += count
  }

  #addChild(level: number, hash: Hash | undefined): void {
    if (this.#open[level]!.children === INDEX_FANOUT) this.#addChild(level + 1, this.#close(level))
    const node = this.#open[level]!
    if (hash !== undefined) {
      node.present[node.children >> 3]! |= 1 << (node.children & 7)
      node.hashes.set(hash, node.presentCount * HASH_SIZE_BYTES)
      node.presentCount++
    }
    node.children++
  }

  #addAbsent(level: number, count: number): void {
    const node = this.#open[level]!
    let left = count
    while (left > 0) {
      if (node.children === INDEX_FANOUT) this.#addChild(level + 1, this.#close(level))
      if (node.children === 0 && left >= INDEX_FANOUT && level < MAX_HEIGHT) {
        const whole = Math.floor(left / INDEX_FANOUT)
        this.#addAbsent(level + 1, whole)
        left -= whole * INDEX_FANOUT
        continue
      }
      const here = Math.min(left, INDEX_FANOUT - node.children)
      node.children += here
      left -= here
    }
  }

  /** The hash of the open node of `level`, emitted; undefined if it is all zero. A new one is open afterwards. */
  #close(level: number): Hash | undefined {
    const node = this.#open[level]!
    const bytes = encodePacked(
      level,
      node.present.subarray(0, Math.ceil(node.children / 8)),
      node.hashes.subarray(0, node.presentCount * HASH_SIZE_BYTES)
    )
    const isAbsent = node.presentCount === 0
    node.children = 0
    node.presentCount = 0
    node.present.fill(0)
    if (isAbsent) return undefined
    const hash = sha256(bytes)
    this.#emit(hash, bytes)
    return hash
  }
}
