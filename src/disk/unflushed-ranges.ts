/**
 * Which sectors were written since the last flush began, as long as they are few.
 *
 * A flush of few sectors puts their content into the log; of many, or of what a dead daemon left, nobody keeps a list.
 */
import type { SectorRange } from './layer-log.ts'

/** More would not be few: a guest's fsync is some 10 KiB of data, and as much of its journal, in a row. */
export const MAX_RANGES = 64

export class UnflushedRanges {
  readonly #maxSectors: number
  #ranges: SectorRange[] = []
  #sectors = 0
  #many = false

  /** @param maxSectors - how many are few */
  constructor(maxSectors: number) {
    this.#maxSectors = maxSectors
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0 && !this.#many
  }

  add(start: number, end: number): void {
    if (this.#many) return
    const last = this.#ranges.at(-1)
    this.#sectors += end - start
    if (this.#sectors > this.#maxSectors || (last !== undefined && this.#ranges.length >= MAX_RANGES)) {
      this.addAll()
    } else if (last !== undefined && last.start + last.count === start) {
      last.count += end - start
    } else {
      this.#ranges.push({ start, count: end - start })
    }
  }

  /** What was added last is in the log by now. Of what was added before nothing can be said. */
  forget(start: number, end: number): void {
    const last = this.#ranges.at(-1)
    if (last === undefined || end !== last.start + last.count || start < last.start) return
    last.count -= end - start
    this.#sectors -= end - start
    if (last.count === 0) this.#ranges.pop()
  }

  /** Anything may have been written. */
  addAll(): void {
    this.#many = true
    this.#ranges = []
  }

  /** The ranges in the order of writing, or 'many'; none is unflushed afterwards. */
  take(): SectorRange[] | 'many' {
    const taken = this.#many ? 'many' : this.#ranges
    this.#ranges = []
    this.#sectors = 0
    this.#many = false
    return taken
  }
}
