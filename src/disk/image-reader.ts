/**
 * Reads of an image of which only a part is here.
 *
 * A block that is in the pool is read in place, synchronously. One that is missing is asked of the block source; all
 * that a read misses is asked for at once, and two reads that miss the same block ask once. A block may have been
 * evicted, or found rotten, between its coming and its reading, so it is located again then, and asked for again. A
 * block whose slot cannot be read is not here either: a guest rather waits for a replica than sees an I/O error. One that came as
 * bytes, because it is not stored yet, is read from them until it is (early-blocks.ts).
 *
 * Owns: the wants under way, the blocks that came as bytes. Does not own the image, the pool or the source.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Clock } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { BlockSource, ObtainedBlock } from '../store/block-source.ts'

import { ZERO } from '../store/local-image.ts'
import { SLOTS_PER_SEGMENT } from '../store/segment-layout.ts'

import { EarlyBlocks } from './early-blocks.ts'
import { FirstTouches, type TouchSink } from './first-touches.ts'
import { WaitMeter } from './wait-meter.ts'

/** What is needed of an image (store's LocalImage): where its blocks are. */
export interface BaseImage {
  readonly id: string
  readonly root: { readonly sizeBytes: number }
  /** A slot of the pool (0 or more), ZERO, or another negative number where the block has to be asked for. */
  locate(block: number): number
  /** As `locate`, from what is known already: nothing is read, hashed or counted as a use. */
  peek(block: number): number
  /** Whether a block that was located can really be read; if not, it is forgotten, and `locate` says so. */
  recheck(block: number): boolean
}

/** What is needed of store's Pool. */
export interface SlotReader {
  /** Fills `target` from a block on; it may reach into the slots behind it that lie in the same segment. */
  readSync(slot: number, offsetInBlock: number, target: Uint8Array): void
  /**
   * Brings a part of a block into the page cache, off this thread, and calls `done`, whatever came of it, at once or
   * later. The slot may be another block's by then.
   */
  warm(slot: number, offsetInBlock: number, lengthBytes: number, done: () => void): void
  /**
   * Fills `target` off this thread, and calls `done` with whether that could be done. Only where a slot that was located in the
   * same turn stays the block's until then.
   */
  readonly readAside?:
    | ((slot: number, offsetInBlock: number, target: Uint8Array, done: (isRead: boolean) => void) => void)
    | undefined
}

/** A block that came and was gone again this many times in a row is an I/O error: the store is failing. */
export const MAX_ATTEMPTS = 8
/** After so many, its bytes are asked for: where the pool is far too small, nobody can say whether the next one would do. */
const ATTEMPTS_BY_SLOT = 2

export interface ImageReaderComponents {
  image: BaseImage
  pool: SlotReader
  source: BlockSource
  /** Hears of the first touch of each block. */
  touches?: TouchSink | undefined
  clock: Pick<Clock, 'monotonicMs'>
}

export class ImageReader {
  readonly waits: WaitMeter
  readonly #image: BaseImage
  readonly #pool: SlotReader
  readonly #source: BlockSource
  readonly #stopping = new AbortController()
  readonly #wanted = new Map<number, { obtained: Promise<ObtainedBlock>; asBytes: boolean }>()
  readonly #early: EarlyBlocks
  readonly #touches: FirstTouches | undefined
  #fetchedBlocks = 0

  constructor(components: ImageReaderComponents) {
    this.#image = components.image
    this.#pool = components.pool
    this.#source = components.source
    this.waits = new WaitMeter(components.clock)
    const { image, touches, clock } = components
    this.#early = new EarlyBlocks(block => image.peek(block) >= 0)
    if (touches !== undefined) this.#touches = new FirstTouches(image.root.sizeBytes, touches, clock)
  }

  /** Blocks that a read asked the source for and got. */
  get fetchedBlocks(): number {
    return this.#fetchedBlocks
  }

  /**
   * Fills `length` bytes of `target`, from `targetOffset` on, with the image's bytes from `offset` on.
   *
   * Done when it returns, or, where it adds promises to `pending`, when they are: each fills its own part. They reject
   * with what the source rejects with, and with DISK_CLOSED after `stop`.
   */
  read(offset: number, target: Uint8Array, targetOffset: number, length: number, pending: Promise<void>[]): void {
    const end = offset + length
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / BLOCK_SIZE_BYTES)
      const inBlock = at - block * BLOCK_SIZE_BYTES
      const count = Math.min(BLOCK_SIZE_BYTES - inBlock, end - at)
      const partOffset = targetOffset + (at - offset)
      const run = count === end - at ? 0 : this.#readRun(block, inBlock, target, partOffset, end - at)
      if (run > 0) {
        at += run
        continue
      }
      const part = count === target.length ? target : target.subarray(partOffset, partOffset + count)
      this.#touches?.note(block, inBlock)
      if (!this.#readLocal(block, inBlock, part)) pending.push(this.#readMissing(block, inBlock, part))
      at += count
    }
  }

  /**
   * Reads blocks that lie one behind the other in the pool, as those of an image that was published or filled in order, with one access.
   *
   * @returns how many bytes were read; 0 where only one block can be read, or the pool failed: then each is read by itself
   */
  #readRun(first: number, inBlock: number, target: Uint8Array, targetOffset: number, length: number): number {
    const slot = this.#image.locate(first)
    if (slot < 0) return 0
    const slotsLeft = SLOTS_PER_SEGMENT - (slot % SLOTS_PER_SEGMENT)
    const blocks = Math.min(Math.ceil((inBlock + length) / BLOCK_SIZE_BYTES), slotsLeft)
    let count = 1
    while (count < blocks && this.#image.locate(first + count) === slot + count) count++
    if (count === 1) return 0
    const bytes = Math.min(count * BLOCK_SIZE_BYTES - inBlock, length)
    try {
      this.#pool.readSync(slot, inBlock, target.subarray(targetOffset, targetOffset + bytes))
    } catch {
      return 0
    }
    for (let block = first; block < first + count; block++) this.#touches?.note(block, block === first ? inBlock : 0)
    return bytes
  }

  /**
   * Reads a part of one block that is here, off this thread, and calls `done` with whether it could be done; if not, `target`
   * may hold anything.
   */
  readAside(offset: number, target: Uint8Array, done: (isRead: boolean) => void): void {
    const block = Math.floor(offset / BLOCK_SIZE_BYTES)
    const inBlock = offset - block * BLOCK_SIZE_BYTES
    const slot = inBlock + target.length > BLOCK_SIZE_BYTES ? -1 : this.#image.locate(block)
    if (slot < 0 || this.#pool.readAside === undefined) {
      done(false)
      return
    }
    this.#touches?.note(block, inBlock)
    this.#pool.readAside(slot, inBlock, target, done)
  }

  /** Reads under way reject with DISK_CLOSED, and so do later ones that miss a block. */
  stop(): void {
    this.#stopping.abort()
  }

  #readLocal(block: number, inBlock: number, part: Uint8Array): boolean {
    const slot = this.#image.locate(block)
    if (slot >= 0) return this.#readSlot(block, slot, inBlock, part)
    if (slot === ZERO) {
      part.fill(0)
      return true
    }
    const bytes = this.#early.get(block)
    if (bytes === undefined) return false
    part.set(bytes.subarray(inBlock, inBlock + part.length))
    return true
  }

  #readSlot(block: number, slot: number, inBlock: number, part: Uint8Array): boolean {
    try {
      this.#pool.readSync(slot, inBlock, part)
    } catch {
      // What is wrong with the slot is logged by the pool, which drops it. One that can be read after all is read again.
      if (!this.#image.recheck(block)) return false
      this.#pool.readSync(slot, inBlock, part)
    }
    return true
  }

  async #readMissing(block: number, inBlock: number, part: Uint8Array): Promise<void> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const obtained = await this.#want(block, attempt >= ATTEMPTS_BY_SLOT)
      if ('bytes' in obtained) {
        part.set(obtained.bytes.subarray(inBlock, inBlock + part.length))
        return
      }
      if (this.#readLocal(block, inBlock, part)) return
    }
    const { id } = this.#image
    throw new RowanError('STORE_IO', `block ${block} of ${id} came ${MAX_ATTEMPTS} times and was gone each time`)
  }

  #want(block: number, asBytes: boolean): Promise<ObtainedBlock> {
    const underWay = this.#wanted.get(block)
    if (underWay !== undefined && (underWay.asBytes || !asBytes)) return underWay.obtained
    const obtained = this.#ask(block, asBytes).finally(() => {
      if (this.#wanted.get(block) === want) this.#wanted.delete(block)
    })
    const want = { obtained, asBytes }
    this.#wanted.set(block, want)
    return obtained
  }

  async #ask(block: number, asBytes: boolean): Promise<ObtainedBlock> {
    const { signal } = this.#stopping
    try {
      signal.throwIfAborted()
      const obtained = await this.#source.want(this.#image.id, block, 'demand', { signal, asBytes })
      this.#fetchedBlocks++
      if ('bytes' in obtained) this.#early.add(block, obtained.bytes)
      return obtained
    } catch (error) {
      if (!signal.aborted) throw error
      throw new RowanError('DISK_CLOSED', `the disk was closed while block ${block} was on its way`, { cause: error })
    }
  }
}
