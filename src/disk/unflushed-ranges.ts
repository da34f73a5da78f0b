/**
 * What was written since the last flush began, as long as it is little: which sectors, and a copy of their bytes.
 *
 * A flush of few sectors puts their content into the log; of many, or of what a dead daemon left, nobody keeps a list.
 *
 * **Why a copy.** Reading it from the data file again would be reading what the page cache has by then. The kernel writes back by itself
 * whenever it likes, and where that fails (a broken disk; ext4, which looks for space only then, and finds none) it may drop the page, so
 * that the file reads as before the write, or as zeros; only a sync of the data file tells, and a flush of little makes none. A write with
 * FUA, whose bytes are at hand, is logged from these.
 */
import type { SectorRange } from './layer-log.ts'
import { SECTOR_BYTES } from './layer-map.ts'

/** More would not be few: a guest's fsync is some 10 KiB of data, and as much of its journal, in a row. */
export const MAX_RANGES = 64

/** Some sectors, and what was written to them; of the disk's last one perhaps only a part. */
export interface WrittenRange extends SectorRange {
  content: Uint8Array
}

export class UnflushedRanges {
  readonly #maxSectors: number
  #ranges: SectorRange[] = []
  #sectors = 0
  #many = false
  /** One range behind the other. Made when it is first needed. */
  #contents: Uint8Array | undefined

  /** @param maxSectors - how many are few */
  constructor(maxSectors: number) {
    this.#maxSectors = maxSectors
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0 && !this.#many
  }

  /** @param data - the bytes of the sectors; copied */
  add(start: number, end: number, data: Uint8Array): void {
    if (this.#many) return
    const last = this.#ranges.at(-1)
    const place = this.#sectors * SECTOR_BYTES
    this.#sectors += end - start
    if (this.#sectors > this.#maxSectors || (last !== undefined && this.#ranges.length >= MAX_RANGES)) {
      this.addAll()
      return
    }
    this.#contents ??= new Uint8Array(this.#maxSectors * SECTOR_BYTES)
    this.#contents.set(data, place)
    if (last !== undefined && last.start + last.count === start) {
      last.count += end - start
    } else {
      this.#ranges.push({ start, count: end - start })
    }
  }

  /** What was added last is in the log by now. Of what was added before nothing can be said. */
  forget(start: number, end: number): void {
    const last = this.#ranges.at(-1)
    if (last === undefined || end !== last.start + last.count || start < last.start) return
    // What was written there before it would come behind it in the log.
    if (this.#ranges.some(range => range !== last && range.start < end && start < range.start + range.count)) return
    last.count -= end - start
    this.#sectors -= end - start
    if (last.count === 0) this.#ranges.pop()
  }

  /** Anything may have been written. */
  addAll(): void {
    this.#many = true
    this.#ranges = []
  }

  /** The ranges in the order of writing, or 'many'; none is unflushed afterwards. Their content is there until the next `add`. */
  take(): WrittenRange[] | 'many' {
    if (this.#many) {
      this.#many = false
      this.#sectors = 0
      return 'many'
    }
    let place = 0
    const taken = this.#ranges.map(({ start, count }) => {
      const content = this.#contents!.subarray(place, place + count * SECTOR_BYTES)
      place += content.length
      return { start, count, content }
    })
    this.#ranges = []
    this.#sectors = 0
    return taken
  }
}
