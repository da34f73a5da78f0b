/**
 * The way of verified blocks into the pool.
 *
 * Blocks that come while a batch is being stored make up the next one (group commit): a demand block waits for one batch at most.
 * Others wait for company for a moment, so that a fill stores dozens of blocks with one write of the table. Where the pool cannot keep
 * a block, its taker is told so; a guest has its bytes by then.
 */

import type { Clock, Log } from '../environment.ts'
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
  /** A guest waits for it. */
  urgent: boolean
  stored(slot: number): void
  /** It could not be kept. */
  failed(error: RowanError): void
}

/** What is not urgent waits until there are so many, or for so long. */
const GATHER_BLOCKS = 16
const GATHER_MS = 3
/** A pool that stays full says so once in a while, not for each block. */
const WARN_INTERVAL_MS = 60_000

export class BlockStore {
  readonly #pool: BlockKeeper
  readonly #buffers: BlockBuffers
  readonly #log: Log
  readonly #clock: Pick<Clock, 'monotonicMs' | 'after'>
  #queue: VerifiedBlock[] = []
  #bytes = 0
  #running = false
  #gathered: (() => void) | undefined
  #room: { promise: Promise<void>; resolve: () => void } | undefined
  #warnedMs = Number.NEGATIVE_INFINITY

  constructor(components: {
    pool: BlockKeeper
    buffers: BlockBuffers
    log: Log
    clock: Pick<Clock, 'monotonicMs' | 'after'>
  }) {
    this.#pool = components.pool
    this.#buffers = components.buffers
    this.#log = components.log
    this.#clock = components.clock
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
    else if (entry.urgent || this.#queue.length >= GATHER_BLOCKS) this.#gathered?.()
    return this.room()
  }

  /** Undefined while there is room. */
  room(): Promise<void> | undefined {
    if (this.#bytes <= MAX_UNSTORED_BYTES) return undefined
    this.#room ??= Promise.withResolvers<void>()
    return this.#room.promise
  }

  /** Until there is a batch worth storing, but not for long. */
  async #gather(): Promise<void> {
    if (this.#queue.length >= GATHER_BLOCKS || this.#queue.some(({ urgent }) => urgent)) return
    await new Promise<void>(resolve => {
      const timer = this.#clock.after(GATHER_MS, resolve)
      this.#gathered = () => {
        timer.cancel()
        resolve()
      }
    })
    this.#gathered = undefined
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#queue.length > 0) {
      await this.#gather()
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
    const nowMs = this.#clock.monotonicMs()
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
