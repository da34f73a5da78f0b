/**
 * Reads of a disk whose store is slow (slow-reads.ts): they wait for the host's disk on libuv's threads, not on this one.
 *
 * A small read brings all of its block into the page cache, once (brought-blocks.ts), and is made in place afterwards, as are
 * later ones of that block.
 *
 * Another that is a part of one block of the image goes straight into the target: an image's block never changes, so it
 * is right unless the guest wrote there meanwhile. All others are brought into the page cache, into nowhere, and then
 * made in place, from whatever holds the sectors then; so it does not matter that they may change, or move, meanwhile,
 * nor that rubbish was read.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Clock } from '../environment.ts'
import { NOWHERE } from '../store/segment-layout.ts'
import { BroughtBlocks } from './brought-blocks.ts'
import type { BaseImage, ImageReader, SlotReader } from './image-reader.ts'
import type { LayerFile } from './layer-files.ts'
import { endSector, SECTOR_ABSENT, SECTOR_BYTES, SECTOR_DATA, sectorOf } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import { CODE_ABSENT, CODE_ZERO } from './owner-page.ts'

/** A longer read is most of its block anyway. */
const MAX_SMALL_BYTES = BLOCK_SIZE_BYTES / 2

export class ColdReads {
  readonly #stack: LayerStack | undefined
  readonly #base: ImageReader
  readonly #image: BaseImage
  readonly #pool: SlotReader
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #brought: BroughtBlocks
  /** Blocks that are being brought. */
  readonly #coming = new Set<number>()

  constructor(components: {
    stack: LayerStack | undefined
    base: ImageReader
    image: BaseImage
    pool: SlotReader
    clock: Pick<Clock, 'monotonicMs'>
  }) {
    this.#stack = components.stack
    this.#base = components.base
    this.#image = components.image
    this.#pool = components.pool
    this.#clock = components.clock
    this.#brought = new BroughtBlocks(components.image.root.sizeBytes)
  }

  /** Whether a read finds all of its range where a slow read brought it, into memory. */
  findsBrought(offset: number, length: number): boolean {
    const block = Math.floor(offset / BLOCK_SIZE_BYTES)
    if (!this.#brought.has(block) || offset + length > (block + 1) * BLOCK_SIZE_BYTES) return false
    this.#brought.used()
    return true
  }

  /**
   * Calls `done`, at once or later, with whether `target` holds the disk's bytes from `offset` on; if not, they are in memory
   * as far as they are here, and it is to be read again. Throws what the layers' maps throw, before anything is under way.
   */
  read(offset: number, target: Uint8Array, done: (isRead: boolean) => void): void {
    const end = offset + target.length
    if (this.#pool.readAside === undefined || !this.#isImage(offset, end)) {
      this.#warm(offset, end, () => done(false))
      return
    }
    const stack = this.#stack
    const { top, frozen } = stack ?? {}
    if (this.#bring(offset, end, done)) return
    this.#base.readAside(offset, target, isRead => {
      // A snapshot moves what was written out of the top.
      done(isRead && stack?.top === top && stack?.frozen === frozen && this.#isStillImage(offset, end))
    })
  }

  /** Brings all of the block that a small read is about, where that is worth it. */
  #bring(offset: number, end: number, done: (isRead: boolean) => void): boolean {
    const block = Math.floor(offset / BLOCK_SIZE_BYTES)
    if (end > (block + 1) * BLOCK_SIZE_BYTES || end - offset > MAX_SMALL_BYTES || this.#coming.has(block)) return false
    const slot = this.#image.peek(block)
    if (slot < 0 || !this.#brought.mayBring(block, this.#clock.monotonicMs())) return false
    this.#coming.add(block)
    this.#pool.warm(slot, 0, BLOCK_SIZE_BYTES, () => {
      this.#coming.delete(block)
      this.#brought.add(block)
      done(false)
    })
    return true
  }

  /** Whoever called `read` is gone by now: the read in place that follows says what is wrong with the map. */
  #isStillImage(offset: number, end: number): boolean {
    try {
      return this.#isImage(offset, end)
    } catch {
      return false
    }
  }

  /** Nobody wrote to the range. Where layers are frozen, they are not asked: what is below them is rarely all of a disk. */
  #isImage(offset: number, end: number): boolean {
    const stack = this.#stack
    if (stack === undefined) return true
    if (stack.frozen !== undefined) return false
    return stack.top.map.allAre(SECTOR_ABSENT, sectorOf(offset), endSector(end))
  }

  /** Reads what is here of the range once. */
  #warm(offset: number, end: number, done: () => void): void {
    const lastSector = endSector(end)
    // This loop counts as a part: it does not end while it begins.
    let left = 1
    const partDone = () => {
      left -= 1
      if (left === 0) done()
    }
    const part = () => {
      left += 1
      return partDone
    }
    for (let at = offset; at < end; ) {
      const { file, stop, isBelow } = this.#find(sectorOf(at), lastSector)
      const runEnd = Math.min(end, stop * SECTOR_BYTES)
      if (file !== undefined) warmFile(file, at, runEnd, part)
      else if (isBelow) this.#warmImage(at, runEnd, part)
      at = runEnd
    }
    partDone()
  }

  /** Who holds a sector, and up to where. */
  #find(sector: number, end: number): { file?: LayerFile; stop: number; isBelow?: boolean } {
    const stack = this.#stack
    if (stack === undefined) return { stop: end, isBelow: true }
    const { top, frozen } = stack
    const stop = top.map.runEnd(sector, end)
    const state = top.map.stateAt(sector)
    if (state === SECTOR_DATA) return { file: top.dataFile, stop }
    if (state !== SECTOR_ABSENT) return { stop }
    if (frozen === undefined) return { stop, isBelow: true }
    const code = frozen.find(sector, stop)
    if (code === CODE_ABSENT) return { stop: frozen.end, isBelow: true }
    return code === CODE_ZERO ? { stop: frozen.end } : { file: frozen.layerOf(code).data, stop: frozen.end }
  }

  #warmImage(from: number, end: number, part: () => () => void): void {
    for (let at = from; at < end; ) {
      const block = Math.floor(at / BLOCK_SIZE_BYTES)
      const inBlock = at - block * BLOCK_SIZE_BYTES
      const count = Math.min(BLOCK_SIZE_BYTES - inBlock, end - at)
      const slot = this.#image.peek(block)
      if (slot >= 0) this.#pool.warm(slot, inBlock, count, part())
      at += count
    }
  }
}

function warmFile(file: LayerFile, from: number, end: number, part: () => () => void): void {
  for (let at = from; at < end; at += NOWHERE.length) {
    const done = part()
    file.read(NOWHERE.subarray(0, Math.min(NOWHERE.length, end - at)), at).then(done, done)
  }
}
