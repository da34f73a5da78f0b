/**
 * Takes what requesters asked for out of their common queue, and sees that it goes out: as fast as the owner allows, a few reads at a time.
 *
 * Whose turn it is, is upload-queue.ts; how fast, upload-rates.ts. A block is read and hashed just before it is sent (block-reader.ts), so a
 * rotten disk never makes this peer a liar. Nothing is read for a requester whose stream does not take it: what a requester can
 * tie up here is a window of its muxer, and no more.
 *
 * Owns: the reads under way, and the timers that go on with the queue. `work` is called whenever there may be something to do.
 */

import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type LocalImage, ZERO } from '../store/images.ts'
import type { AskedItems, UploadJob } from './asked-items.ts'
import { BlockReader, type BlockReaderComponents } from './block-reader.ts'
import { CompressedCache } from './compression.ts'
import { COMPRESSED_CACHE_BYTES, MAX_READS_AT_ONCE } from './limits.ts'
import type { Rank } from './messages.ts'
import type { BlockRead } from './outgoing-blocks.ts'
import { itemOf } from './scheduler-types.ts'
import type { TrafficLimits } from './traffic-limits.ts'
import type { UploadQueue } from './upload-queue.ts'
import { UploadRates } from './upload-rates.ts'

/** Served without letting anybody else in this process have a turn: about 2 ms. */
const BLOCKS_AT_A_STRETCH = 32
const MAX_RATE_WAIT_MS = 1_000

export interface UploadsComponents {
  queue: UploadQueue<AskedItems, UploadJob>
  pool: BlockReaderComponents['pool']
  clock: Clock
  log: Log
}

export class Uploads {
  readonly #components: UploadsComponents
  readonly #reader: BlockReader
  readonly #rates = new UploadRates()
  #reads = 0
  #rateTimer: Timer | undefined
  #restTimer: Timer | undefined
  #stopped = false

  constructor(components: UploadsComponents) {
    const { pool, clock } = components
    this.#components = components
    this.#reader = new BlockReader({ pool, cache: new CompressedCache(COMPRESSED_CACHE_BYTES, clock), clock })
  }

  /** From now on. */
  limit(limits: TrafficLimits): void {
    this.#rates.limit(limits, this.#components.clock.monotonicMs())
    this.#rateTimer?.cancel()
    this.#rateTimer = undefined
    this.work()
  }

  stop(): void {
    this.#stopped = true
    this.#rateTimer?.cancel()
    this.#restTimer?.cancel()
  }

  spend(asked: AskedItems, bytes: number): void {
    this.#rates.spend(bytes, asked.isCourtesy, this.#components.clock.monotonicMs())
  }

  /** For what does not stand in the queue. The rate may be changed meanwhile, or the server stop. */
  async rateAllows(): Promise<void> {
    const { clock } = this.#components
    const waitMs = () => (this.#stopped ? 0 : this.#rates.waitMs(clock.monotonicMs()))
    for (let ms = waitMs(); ms > 0; ms = waitMs()) {
      await new Promise<void>(resolve => void clock.after(Math.min(ms, MAX_RATE_WAIT_MS), resolve))
    }
  }

  /** Serves as long as there is something to serve, and somewhere to put it. */
  work(): void {
    const { queue, clock } = this.#components
    for (let served = 0; this.#reads < MAX_READS_AT_ONCE && !this.#stopped; served++) {
      if (served >= BLOCKS_AT_A_STRETCH) {
        this.#restTimer ??= clock.after(0, () => {
          this.#restTimer = undefined
          this.work()
        })
        return
      }
      const nowMs = clock.monotonicMs()
      const waitMs = this.#rates.waitMs(nowMs)
      if (waitMs > 0) {
        this.#workIn(waitMs)
        return
      }
      const courtesyWaitMs = this.#rates.courtesyWaitMs(nowMs)
      const next = queue.next((asked, rank) => asked.canTake(rank) && !(asked.isCourtesy && courtesyWaitMs > 0))
      if (next === undefined) {
        if (courtesyWaitMs > 0) this.#workIn(courtesyWaitMs)
        return
      }
      const { requester: asked, key, rank, job } = next
      if (itemOf(key).kind === 'node') asked.answerNode(key)
      else this.#serve(asked, key, rank, job)
    }
  }

  #workIn(waitMs: number): void {
    this.#rateTimer ??= this.#components.clock.after(waitMs, () => {
      this.#rateTimer = undefined
      this.work()
    })
  }

  #serve(asked: AskedItems, key: number, rank: Rank, job: UploadJob): void {
    const item = itemOf(key)
    const image = asked.imageOf(key)
    if (item.kind !== 'block' || image === undefined || asked.ended) return
    try {
      const frame = this.#reader.frame(image, item.block, item.image, job.acceptZstd)
      if (frame instanceof Promise) this.#serveLater(asked, key, rank, image, frame)
      else this.#answer(asked, key, rank, image, frame)
    } catch (cause) {
      this.#failed(asked, key, cause)
    }
  }

  #serveLater(
    asked: AskedItems,
    key: number,
    rank: Rank,
    image: LocalImage,
    pending: Promise<Uint8Array | undefined>
  ): void {
    this.#reads++
    const read = asked.outgoing.readBegins(key, rank)
    pending
      .then(frame => (read.isOver ? undefined : this.#answer(asked, key, read.rank, image, frame)))
      .catch(cause => this.#failed(asked, key, cause, read))
      .finally(() => {
        this.#reads--
        asked.outgoing.readEnds(read)
        this.work()
      })
  }

  #answer(asked: AskedItems, key: number, rank: Rank, image: LocalImage, frame: Uint8Array | undefined): void {
    const item = itemOf(key)
    if (asked.ended || item.kind !== 'block') return
    if (frame === undefined) {
      // Its page may not be at the requester yet, so it could not know that there is nothing to ask for.
      asked.answerMissing(key, image.locate(item.block) === ZERO ? 'zero' : 'absent')
      return
    }
    this.spend(asked, frame.byteLength)
    asked.outgoing.add(key, rank, frame)
  }

  #failed(asked: AskedItems, key: number, cause: unknown, read?: BlockRead): void {
    const { code, message } = asRowanError(cause, 'STORE_IO', 'a block could not be read')
    this.#components.log.warn('a block that is here could not be served', { code, message })
    if (read?.isOver !== true) asked.answerMissing(key, 'absent')
  }
}
