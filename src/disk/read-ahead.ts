/**
 * Fetches parts of an image before anybody reads them (NBD's CACHE).
 *
 * Blocks are asked for at the priority `read-ahead`, which the swarm serves after all demand, and no more than
 * MAX_WANTED at a time for the whole disk, whatever the ranges: who asks for 8 TiB gets them in order, a window at a time.
 * Ranges take turns in the window, one block each. A range ends where the pool has no room: fetching more would only
 * throw bytes away.
 *
 * Bounded by whoever sends requests: a range for each request in flight.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import type { BlockSource } from '../store/block-source.ts'
import { ZERO } from '../store/local-image.ts'
import type { SectorStates } from './disk-extents.ts'
import type { BaseImage } from './image-reader.ts'
import { SECTOR_ABSENT, SECTOR_BYTES } from './layer-map.ts'

/** Blocks asked for at once: 4 MiB on the way. */
export const MAX_WANTED = 64
/** Blocks looked at before others have their turn on this thread; well below a millisecond. */
const BLOCKS_PER_TURN = 2_048

export class ReadAhead {
  readonly #image: BaseImage
  readonly #source: BlockSource
  readonly #map: SectorStates | undefined
  readonly #stopping = new AbortController()
  #wanted = 0
  /** Ranges that wait for a place in the window, in the order of coming. */
  #waiting: (() => void)[] = []

  constructor(components: { image: BaseImage; source: BlockSource; map: SectorStates | undefined }) {
    this.#image = components.image
    this.#source = components.source
    this.#map = components.map
  }

  /**
   * Brings the absent blocks of a range, which must be within the disk.
   *
   * Rejects with what the source rejects with, once nothing of the range is on the way any more, and with DISK_CLOSED
   * after `stop`.
   *
   * @param gone - nobody waits any more: what is on the way for the range is called off, and ends with ABORTED
   */
  async fetch(offset: number, lengthBytes: number, gone?: AbortSignal): Promise<void> {
    const { signal: stopping } = this.#stopping
    const signal = gone === undefined ? stopping : AbortSignal.any([stopping, gone])
    const end = Math.ceil((offset + lengthBytes) / BLOCK_SIZE_BYTES)
    const onTheWay = new Set<Promise<void>>()
    const range: { failure: unknown; isOver: boolean } = { failure: undefined, isOver: false }
    let looked = 0
    for (let block = Math.floor(offset / BLOCK_SIZE_BYTES); block < end && !range.isOver; block++) {
      if (++looked % BLOCKS_PER_TURN === 0) await new Promise(resolve => setImmediate(resolve))
      if (signal.aborted) break
      if (!this.#isMissing(block, offset, offset + lengthBytes)) continue
      await this.#place()
      const coming = this.#want(block, signal)
        .then(kept => {
          if (!kept) range.isOver = true
        })
        .catch((error: unknown) => {
          range.isOver = true
          range.failure ??= error
        })
        .finally(() => onTheWay.delete(coming))
      onTheWay.add(coming)
    }
    await Promise.all(onTheWay)
    if (stopping.aborted) throw new RowanError('DISK_CLOSED', 'the disk was closed while it read ahead')
    if (gone?.aborted === true) throw new RowanError('ABORTED', 'nobody waits any more for what was read ahead')
    if (range.failure !== undefined) throw range.failure
  }

  /** Nothing more is asked for, and what is on the way is called off. */
  stop(): void {
    this.#stopping.abort()
  }

  /** Whether some of the range's bytes in this block can only be read once the block is here. */
  #isMissing(block: number, offset: number, end: number): boolean {
    if (this.#image.peek(block) >= ZERO) return false
    const map = this.#map
    if (map === undefined) return true
    const from = Math.floor(Math.max(offset, block * BLOCK_SIZE_BYTES) / SECTOR_BYTES)
    const to = Math.ceil(Math.min(end, (block + 1) * BLOCK_SIZE_BYTES) / SECTOR_BYTES)
    for (let sector = from; sector < to; sector = map.runEnd(sector, to)) {
      if (map.stateAt(sector) === SECTOR_ABSENT) return true
    }
    return false
  }

  /** Takes a place in the window, when there is one. */
  async #place(): Promise<void> {
    if (this.#wanted >= MAX_WANTED) await new Promise<void>(resolve => this.#waiting.push(resolve))
    else this.#wanted++
  }

  #leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#wanted--
    else next()
  }

  /** @returns whether the pool kept the block */
  async #want(block: number, signal: AbortSignal): Promise<boolean> {
    try {
      signal.throwIfAborted()
      const obtained = await this.#source.want(this.#image.id, block, 'read-ahead', { signal })
      return 'slot' in obtained
    } finally {
      this.#leave()
    }
  }
}
