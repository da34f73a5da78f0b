/**
 * Brings what a read will need into the page cache, on libuv's threads.
 *
 * What is read goes nowhere: the read is made in place afterwards, from whatever holds the sectors then. So it does not
 * matter that they may change, or move, meanwhile; nor that this reads rubbish, or fails.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { BaseImage, SlotReader } from './image-reader.ts'
import type { LayerFile } from './layer-files.ts'
import { SECTOR_ABSENT, SECTOR_BYTES, SECTOR_DATA } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import { CODE_ABSENT, CODE_ZERO } from './owner-page.ts'

/** Written to by many reads at a time, and never read. */
const NOWHERE = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)

export class WarmUp {
  readonly #stack: LayerStack | undefined
  readonly #image: BaseImage
  readonly #pool: SlotReader

  constructor(components: { stack: LayerStack | undefined; image: BaseImage; pool: SlotReader }) {
    this.#stack = components.stack
    this.#image = components.image
    this.#pool = components.pool
  }

  /** Reads what is here of the range once, and calls `done`, at once or later. Never throws. */
  run(offset: number, lengthBytes: number, done: () => void): void {
    const end = offset + lengthBytes
    const lastSector = Math.ceil(end / SECTOR_BYTES)
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
      const sector = Math.floor(at / SECTOR_BYTES)
      const { file, stop, isBelow } = this.#find(sector, lastSector)
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
