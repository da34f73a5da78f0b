/**
 * Slots whose bytes nobody has hashed since an unclean stop: one bit each.
 */
import { SLOTS_PER_SEGMENT } from './segment-files.ts'

const PAGE_BYTES = SLOTS_PER_SEGMENT / 8

export class Suspects {
  /** A bitmap for each segment; absent where no slot is suspect. */
  readonly #pages = new Map<number, Uint8Array>()

  has(slot: number): boolean {
    if (this.#pages.size === 0) return false
    const page = this.#pages.get(Math.floor(slot / SLOTS_PER_SEGMENT))
    const index = slot % SLOTS_PER_SEGMENT
    return page !== undefined && (page[index >> 3]! & (1 << (index & 7))) !== 0
  }

  add(slot: number): void {
    const segment = Math.floor(slot / SLOTS_PER_SEGMENT)
    const index = slot % SLOTS_PER_SEGMENT
    let page = this.#pages.get(segment)
    if (page === undefined) {
      page = new Uint8Array(PAGE_BYTES)
      this.#pages.set(segment, page)
    }
    page[index >> 3]! |= 1 << (index & 7)
  }

  clear(slot: number): void {
    if (this.#pages.size === 0) return
    const segment = Math.floor(slot / SLOTS_PER_SEGMENT)
    const index = slot % SLOTS_PER_SEGMENT
    const page = this.#pages.get(segment)
    if (page === undefined) return
    page[index >> 3]! &= ~(1 << (index & 7))
    if (page.every(byte => byte === 0)) this.#pages.delete(segment)
  }

  /** To be written down. */
  pages(): IterableIterator<[segment: number, bits: Uint8Array]> {
    return this.#pages.entries()
  }

  /** As written down. */
  load(segment: number, bits: Uint8Array): void {
    this.#pages.set(segment, Uint8Array.from(bits.subarray(0, PAGE_BYTES)))
  }
}
