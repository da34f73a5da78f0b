/**
 * Blocks that are here, as frames for somebody else.
 *
 * A block is read straight into its frame and hashed there. Reading is synchronous as long as it is fast: 64 KiB from the page cache
 * take about 15 µs, a trip through the thread pool several times that. One slow read, and the next ones go the asynchronous way, so
 * that a cold disk does not stop everything else in this process.
 */

import type { Clock } from '../environment.ts'
import { sha256 } from '../image/hash.ts'
import type { LocalImage } from '../store/images.ts'
import type { CompressedCache } from './compression.ts'
import { bodyOf, emptyBlockFrame, encodeBlockFrame } from './frames.ts'

/** A synchronous read that took longer did not come from memory. */
const SLOW_READ_MS = 4
/** So many reads go the asynchronous way after a slow one. */
const ASYNC_READS = 64

export interface BlockReaderComponents {
  pool: { readSync(slot: number, offsetInBlock: number, target: Uint8Array): void }
  cache: CompressedCache
  clock: Pick<Clock, 'monotonicMs'>
}

export class BlockReader {
  readonly #components: BlockReaderComponents
  #asyncLeft = 0

  constructor(components: BlockReaderComponents) {
    this.#components = components
  }

  /**
   * The frame of a block whose bytes were hashed just now.
   *
   * @returns undefined when the block is not here, zero, or rotten; a promise while the disk is slow
   */
  frame(
    image: LocalImage,
    block: number,
    handle: number,
    acceptZstd: boolean
  ): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    if (this.#asyncLeft > 0) {
      this.#asyncLeft--
      return this.#frameLater(image, block, handle, acceptZstd)
    }
    const slot = image.locate(block)
    const hash = slot >= 0 ? image.hashOf(block) : undefined
    if (hash === undefined) return undefined
    const frame = emptyBlockFrame(handle, block)
    const body = bodyOf(frame)
    const startMs = this.#components.clock.monotonicMs()
    this.#components.pool.readSync(slot, 0, body)
    if (this.#components.clock.monotonicMs() - startMs > SLOW_READ_MS) this.#asyncLeft = ASYNC_READS
    // The store sees to a rotten block.
    if (Buffer.compare(sha256(body), hash) !== 0) return this.#frameLater(image, block, handle, acceptZstd)
    const compressed = acceptZstd ? this.#components.cache.compressed(hash, body) : undefined
    return compressed === undefined ? frame : encodeBlockFrame(handle, block, compressed, true)
  }

  async #frameLater(
    image: LocalImage,
    block: number,
    handle: number,
    acceptZstd: boolean
  ): Promise<Uint8Array | undefined> {
    const body = await image.verified(block)
    const hash = image.hashOf(block)
    if (body === undefined || hash === undefined) return undefined
    const compressed = acceptZstd ? this.#components.cache.compressed(hash, body) : undefined
    return encodeBlockFrame(handle, block, compressed ?? body, compressed !== undefined)
  }
}
