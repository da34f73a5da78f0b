/**
 * The way of verified blocks into the pool.
 *
 * Blocks that come while a batch is being stored make up the next one (group commit): a lone demand block waits for one batch at
 * most, and a fill stores dozens of blocks with one write of the table. Where the pool cannot keep a block, its taker is told so and
 * gets the bytes: a guest must not wait for a full disk.
 */

import type { Log } from '../environment.ts'
import { asRowanError, type RowanError } from '../errors.ts'
import type { Hash } from '../image/hash.ts'
import type { BlockBuffers } from './block-buffers.ts'
import { MAX_UNSTORED_BYTES, STORE_BATCH_BLOCKS } from './limits.ts'

export interface BlockKeeper {
  putMany(entries: { hash: Hash; block: Uint8Array }[]): Promise<number[]>
}

export interface VerifiedBlock {
  hash: Hash
  block: Uint8Array
  stored(slot: number): void
  /** It could not be kept. */
  failed(error: RowanError): void
}

/** A pool that stays full says so once in a while, not for each block. */
const WARN_INTERVAL_MS = 60_000

export class BlockStore {
  readonly #pool: BlockKeeper
  readonly #buffers: BlockBuffers
  readonly #log: Log
  readonly #monotonicMs: () => number
  #queue: VerifiedBlock[] = []
  #bytes = 0
  #running = false
  #room: { promise: Promise<void>; resolve: () => void } | undefined
  #warnedMs = Number.NEGATIVE_INFINITY

  constructor(components: { pool: BlockKeeper; buffers: BlockBuffers; log: Log; clock: { monotonicMs(): number } }) {
    this.#pool = components.pool
    this.#buffers = components.buffers
    this.#log = components.log
    this.#monotonicMs = () => components.clock.monotonicMs()
  }

  /** Bytes on their way into the pool. */
  get pendingBytes(): number {
    return this.#bytes
  }

  /**
   * Takes a block, and its buffer: that is used for another block once this one is stored.
   *
   * @returns a promise for when there is room again, if there is none; wait for it before more blocks come
   */
  add(entry: VerifiedBlock): Promise<void> | undefined {
    this.#queue.push(entry)
    this.#bytes += entry.block.byteLength
    if (!this.#running) void this.#run()
    return this.room()
  }

  /** Undefined while there is room. */
  room(): Promise<void> | undefined {
    if (this.#bytes <= MAX_UNSTORED_BYTES) return undefined
    this.#room ??= Promise.withResolvers<void>()
    return this.#room.promise
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, STORE_BATCH_BLOCKS)
      await this.#storeAll(batch)
      for (const entry of batch) this.#bytes -= entry.block.byteLength
      if (this.#bytes <= MAX_UNSTORED_BYTES) {
        this.#room?.resolve()
        this.#room = undefined
      }
    }
    this.#running = false
  }

  async #storeAll(batch: VerifiedBlock[]): Promise<void> {
    let slots: number[]
    try {
      slots = await this.#pool.putMany(batch)
    } catch (cause) {
      // A batch is kept or refused as a whole; one by one, as many as fit are kept.
      if (batch.length > 1) for (const entry of batch) await this.#storeAll([entry])
      else this.#refused(batch[0]!, asRowanError(cause, 'STORE_IO', 'a block could not be stored'))
      return
    }
    for (const [i, entry] of batch.entries()) {
      try {
        entry.stored(slots[i]!)
        this.#buffers.give(entry.block)
      } catch (cause) {
        entry.failed(asRowanError(cause, 'INTERNAL', 'a stored block could not be noted'))
      }
    }
  }

  #refused(entry: VerifiedBlock, error: RowanError): void {
    const nowMs = this.#monotonicMs()
    if (nowMs - this.#warnedMs > WARN_INTERVAL_MS) {
      this.#warnedMs = nowMs
      this.#log.warn('blocks cannot be kept; a waiting guest still gets them', {
        code: error.code,
        message: error.message
      })
    }
    entry.failed(error)
  }
}
