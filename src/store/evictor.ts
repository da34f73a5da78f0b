/**
 * Keeps the pool under its quota: carries out what the policy (eviction.ts) decides, on the injected clock.
 *
 * A round is: survey the pool, choose, drop in batches. Right before each batch the survey is checked again, so that
 * nothing goes that was pinned, used by a publisher, or replaced meanwhile; if it is out of date, the round is cut short
 * and another begins. Whoever puts blocks that do not fit waits for the round, and goes on with the room that it made;
 * where there is none to be made, it is told so at once.
 *
 * Owns: the rounds, the minute that uses are noted with. Does not own: why images stay (StayReasons), announcements (the
 * images' `onLost`).
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type EvictionAction, EvictionPolicy, watermarks } from './eviction.ts'
import type { Images } from './images.ts'
import { minuteOf } from './page-uses.ts'
import type { Pool } from './pool.ts'
import type { RoomMaker } from './pool-types.ts'
import { type StayReasons, Survey } from './survey.ts'

/** Dropped at once, with one write of the table. */
const BLOCKS_PER_BATCH = 1024
/** Rounds in a row that may be cut short before whoever waits is told to do without. */
const MAX_ROUNDS = 4
const MINUTE_MS = 60_000
/** Last uses are written down this often. */
const SAVE_EVERY_MINUTES = 10
/** A count of pinned blocks is good for this long, and longer while the pool holds the same number of blocks. */
const PINNED_COUNT_MS = 2_000
const PINNED_COUNT_UNCHANGED_MS = 30_000

export interface EvictorComponents {
  pool: Pool
  images: Images
  stay: StayReasons
  clock: Clock
  log: Log
}

export class Evictor implements RoomMaker {
  readonly #components: EvictorComponents
  readonly #policy: EvictionPolicy
  #isStarted = false
  #wantedBlocks = 0
  #round: Promise<number> | undefined
  #timer: Timer | undefined
  #minutesUntilSave = SAVE_EVERY_MINUTES
  #pinned: { atMs: number; blocksInPool: number; blocks: Promise<number> } | undefined

  /** From now on uses are noted; nothing is evicted before `start`. */
  constructor(components: EvictorComponents) {
    this.#components = components
    const { pool, images, clock } = components
    this.#policy = new EvictionPolicy(watermarks(pool.level.maxBlocks))
    images.uses.clock.minute = minuteOf(clock.now())
    pool.useRoomMaker(this)
    this.#everyMinute()
  }

  /** Everything that is pinned can be told from now on. Evicts at once if the pool is over its quota. */
  start(): void {
    this.#isStarted = true
    this.slotsTaken()
  }

  /** Waits for a round under way, which is cut short, and writes down the last uses. */
  async stop(): Promise<void> {
    this.#isStarted = false
    this.#timer?.cancel()
    await this.#round
    await this.#components.images.uses.save()
  }

  slotsTaken(): void {
    if (this.#isStarted) this.#do(this.#policy.event({ type: 'level', ...this.#level() }, this.#nowMs()))
  }

  async makeRoom(blocks: number): Promise<boolean> {
    if (!this.#isStarted) return false
    this.#wantedBlocks += blocks
    try {
      this.slotsTaken()
      return this.#round !== undefined && (await this.#round) > 0
    } finally {
      this.#wantedBlocks -= blocks
    }
  }

  /** Something may not be pinned any more. */
  reconsider(): void {
    this.#pinned = undefined
    this.#policy.reconsider()
    this.slotsTaken()
  }

  /** Bytes of the pool that are never evicted, counted some seconds ago at most, or when the pool was as it is. */
  async pinnedBytes(): Promise<number> {
    const { pool } = this.#components
    const nowMs = this.#nowMs()
    const blocksInPool = pool.usage.blocks
    const goodMs = this.#pinned?.blocksInPool === blocksInPool ? PINNED_COUNT_UNCHANGED_MS : PINNED_COUNT_MS
    if (this.#pinned === undefined || nowMs - this.#pinned.atMs > goodMs) {
      this.#pinned = { atMs: nowMs, blocksInPool, blocks: this.#countPinned() }
    }
    return (await this.#pinned.blocks) * BLOCK_SIZE_BYTES
  }

  async #countPinned(): Promise<number> {
    const survey = await Survey.make(this.#components)
    survey.close()
    return survey.pinnedBlocks
  }

  #do(actions: EvictionAction[]): void {
    for (const action of actions) {
      if (action.type === 'survey') this.#round ??= this.#run().finally(() => this.#ended())
    }
  }

  /** A round that freed something may have left, or let in, more than there should be. */
  #ended(): void {
    this.#round = undefined
    this.slotsTaken()
  }

  /** Never rejects. Returns how many blocks went. */
  async #run(): Promise<number> {
    const { log, pool } = this.#components
    let freed = 0
    let outcome: 'done' | 'cut short' | 'failed' = 'cut short'
    try {
      for (let round = 0; outcome === 'cut short' && this.#isStarted && round < MAX_ROUNDS; round++) {
        const { went, cutShort } = await this.#evict()
        freed += went
        if (!cutShort) outcome = 'done'
      }
    } catch (error) {
      outcome = 'failed'
      log.warn('blocks could not be evicted', { error: asRowanError(error, 'STORE_IO') })
    }
    if (freed > 0)
      log.info('blocks were evicted', { blocks: freed, left: pool.usage.blocks, quota: pool.level.maxBlocks })
    this.#policy.event({ type: 'ended', outcome }, this.#nowMs())
    return freed
  }

  async #evict(): Promise<{ went: number; cutShort: boolean }> {
    const { pool } = this.#components
    const survey = await Survey.make(this.#components)
    let went = 0
    try {
      const { standings } = survey
      survey.leaveHeld()
      for (const action of this.#policy.event({ type: 'surveyed', standings, ...this.#level() }, this.#nowMs())) {
        if (action.type !== 'drop') continue
        const planned = action.slots.map(slot => standings[slot]!)
        for (let first = 0; first < action.slots.length; first += BLOCKS_PER_BATCH) {
          if (survey.isOutdated || !this.#isStarted) return { went, cutShort: true }
          const batch = action.slots
            .slice(first, first + BLOCKS_PER_BATCH)
            .filter((slot, index) => standings[slot] === planned[first + index])
          const gone = await pool.evict(batch)
          went += gone
          if (gone < batch.length) return { went, cutShort: true }
        }
      }
      return { went, cutShort: false }
    } finally {
      survey.close()
    }
  }

  #level(): { takenBlocks: number; wantedBlocks: number } {
    const { takenBlocks, retiredBlocks } = this.#components.pool.level
    return { takenBlocks: takenBlocks - retiredBlocks, wantedBlocks: this.#wantedBlocks }
  }

  #nowMs(): number {
    return this.#components.clock.monotonicMs()
  }

  #everyMinute(): void {
    const { clock, images, log } = this.#components
    this.#timer = clock.after(MINUTE_MS, () => {
      images.uses.clock.minute = minuteOf(clock.now())
      // What was pinned when nothing could go may be free now.
      this.slotsTaken()
      if (--this.#minutesUntilSave <= 0) {
        this.#minutesUntilSave = SAVE_EVERY_MINUTES
        images.uses.save().catch((error: unknown) => {
          log.warn('the last uses could not be written down', { error: asRowanError(error, 'STORE_IO') })
        })
      }
      this.#everyMinute()
    })
  }
}
