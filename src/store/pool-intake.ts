/**
 * Blocks on their way into the pool.
 *
 * A block that is put twice at once is written once: the second put waits for the first. Where the quota is full, whoever
 * makes room (evictor.ts) is asked first. Then slots are reserved for all blocks of a put, their bytes written, runs of
 * slots in one go, and then their entries; where that fails, the slots are free again and none of the new blocks is kept.
 *
 * Owns: the blocks that are on their way, and their slots until the entries are written. Does not own: the files, the
 * table and the entries, which are the pool's.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import type { FreeSpace } from './free-space.ts'
import { type HashedBlock, keyOf, type PendingBlock, runsOf } from './pool-blocks.ts'
import type { LoadedPool } from './pool-load.ts'
import type { RoomMaker } from './pool-types.ts'
import type { SegmentFiles } from './segment-files.ts'
import type { SlotAllocator } from './slot-allocator.ts'
import type { SlotEntries } from './slot-entries.ts'
import type { SlotTable } from './slot-table.ts'
import type { Suspects } from './suspects.ts'

/** Blocks whose puts are under way: 1 GiB of the callers' memory. */
const MAX_PENDING_BLOCKS = 16_384
/** Rounds of eviction that one put waits for. */
const MAX_ROOM_TRIES = 16

type IntakeComponents = Pick<LoadedPool, 'entries' | 'table' | 'allocator' | 'suspects'> & {
  files: SegmentFiles
  freeSpace: FreeSpace
}

/** What it asks of the pool as a whole. */
interface WholePool {
  /** Slots that are taken, those on their way in among them, and how many the quota allows. */
  level(): { takenBlocks: number; maxBlocks: number }
  /** @throws RowanError STORE_IO when nothing can be written any more */
  mustTakeWrites(): void
  /** Waits for a write of entries, and notes that it failed. */
  noted(written: Promise<void>): Promise<void>
  /** These slots are in the table. */
  stored(slots: readonly number[]): void
}

export class PoolIntake {
  readonly #entries: SlotEntries
  readonly #files: SegmentFiles
  readonly #table: SlotTable
  readonly #allocator: SlotAllocator
  readonly #suspects: Suspects
  readonly #freeSpace: FreeSpace
  readonly #pool: WholePool
  /** By the text of their hash: a second put of one waits for the first. */
  readonly #pending = new Map<string, { slot: number; job: Promise<void> }>()
  readonly #jobs = new Set<Promise<void>>()
  #roomMaker: RoomMaker | undefined

  constructor({ entries, files, table, allocator, suspects, freeSpace }: IntakeComponents, pool: WholePool) {
    this.#entries = entries
    this.#files = files
    this.#table = table
    this.#allocator = allocator
    this.#suspects = suspects
    this.#freeSpace = freeSpace
    this.#pool = pool
  }

  /** On their way. */
  get blocks(): number {
    return this.#pending.size
  }

  /** Whether a block is on its way into `slot`. */
  isTaking(slot: number): boolean {
    for (const pending of this.#pending.values()) if (pending.slot === slot) return true
    return false
  }

  /** This one makes room from now on. */
  useRoomMaker(roomMaker: RoomMaker): void {
    this.#roomMaker = roomMaker
  }

  /** Waits for what is on its way. A put that fails tells its own caller. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#jobs])
  }

  /** As Pool.putMany. */
  async putMany(entries: readonly HashedBlock[], slotsKnown?: (slots: readonly number[]) => void): Promise<number[]> {
    this.#pool.mustTakeWrites()
    const slots: number[] = []
    const jobs = new Set<Promise<void>>()
    const keys = entries.map(entry => keyOf(entry))
    let fresh = this.#freshOf(entries, keys)
    // Others that waited too may have been faster.
    for (let tries = 0; fresh.size > this.#room && tries < MAX_ROOM_TRIES; tries++) {
      if ((await this.#roomMaker?.makeRoom(fresh.size)) !== true) break
      this.#pool.mustTakeWrites()
      fresh = this.#freshOf(entries, keys)
    }
    if (fresh.size > 0) this.#begin(fresh)
    for (const [index, entry] of entries.entries()) {
      const pending = this.#pending.get(keys[index]!)
      if (pending !== undefined) jobs.add(pending.job)
      slots.push(pending?.slot ?? this.#table.find(entry.hash))
    }
    slotsKnown?.(slots)
    // All of them: the caller's buffers are read until the last one ends, also where another has failed.
    const outcomes = await Promise.allSettled(jobs)
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    return slots
  }

  /** Slots that the quota still allows. */
  get #room(): number {
    const { maxBlocks, takenBlocks } = this.#pool.level()
    return maxBlocks - takenBlocks
  }

  /** What is neither here nor on its way in. */
  #freshOf(entries: readonly HashedBlock[], keys: readonly string[]): Map<string, HashedBlock> {
    const fresh = new Map<string, HashedBlock>()
    for (const [index, entry] of entries.entries()) {
      if (this.#table.find(entry.hash) === -1 && !this.#pending.has(keys[index]!)) fresh.set(keys[index]!, entry)
    }
    return fresh
  }

  /** Reserves slots and starts to store. Throws POOL_FULL or LIMIT_EXCEEDED before anything has changed. */
  #begin(fresh: ReadonlyMap<string, HashedBlock>): void {
    if (fresh.size > this.#room) {
      const { maxBlocks, takenBlocks } = this.#pool.level()
      throw new RowanError(
        'POOL_FULL',
        `${fresh.size} more blocks do not fit: ${takenBlocks} of the ${maxBlocks} of 64 KiB in its quota are taken`
      )
    }
    if (this.#pending.size + fresh.size > MAX_PENDING_BLOCKS) {
      throw new RowanError(
        'LIMIT_EXCEEDED',
        `more than ${MAX_PENDING_BLOCKS} blocks would be on their way into the pool`
      )
    }
    const blocks: PendingBlock[] = []
    for (const [key, { hash, block }] of fresh) blocks.push({ key, hash, block, slot: this.#allocator.take() })
    // Begins in a microtask, so that `finally` below comes after the entries of `pending`.
    const job = Promise.resolve().then(() => this.#store(blocks))
    for (const { key, slot } of blocks) this.#pending.set(key, { slot, job })
    this.#jobs.add(job)
    const ended = () => {
      for (const { key } of blocks) this.#pending.delete(key)
      this.#jobs.delete(job)
    }
    job.then(ended, ended)
    this.#roomMaker?.slotsTaken()
  }

  async #store(blocks: readonly PendingBlock[]): Promise<void> {
    try {
      await this.#write(blocks)
      // Still set where an entry led nowhere when the pool was opened.
      for (const { slot } of blocks) this.#suspects.clear(slot)
      await this.#pool.noted(this.#entries.add(blocks))
    } catch (error) {
      for (const { slot } of blocks) this.#allocator.free(slot)
      throw error
    }
    this.#pool.stored(blocks.map(({ slot }) => slot))
  }

  async #write(blocks: readonly PendingBlock[]): Promise<void> {
    const bytes = blocks.length * BLOCK_SIZE_BYTES
    await this.#freeSpace.take(bytes)
    try {
      for (const run of runsOf(blocks)) {
        await this.#files.write(
          run[0]!.slot,
          run.map(({ block }) => block)
        )
      }
    } finally {
      this.#freeSpace.settled(bytes)
    }
  }
}
