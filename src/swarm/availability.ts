/**
 * Which blocks of one image one replica has, as far as it said.
 *
 * A complete replica has all of them, except those that it could not give when asked. A partial one has what its bitmaps say: one
 * bit for each block, in pages of 1,024. Bounded by MAX_HAVE_PAGES.
 */

import { INDEX_FANOUT } from '../cluster.ts'
import { MAX_HAVE_PAGES } from './limits.ts'
import type { HavePage } from './messages.ts'

/** Blocks that a replica could not give; more than these, and it is no longer taken to be complete. */
const MAX_LACKING = 4096

export class Availability {
  #complete = false
  readonly #pages = new Map<number, Uint8Array>()
  readonly #lacking = new Set<number>()

  get complete(): boolean {
    return this.#complete
  }

  has(block: number): boolean {
    if (this.#lacking.has(block)) return false
    if (this.#complete) return true
    const bit = block % INDEX_FANOUT
    const bitmap = this.#pages.get((block - bit) / INDEX_FANOUT)
    return bitmap !== undefined && ((bitmap[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0
  }

  /**
   * What the replica says it has now: newer pages replace older ones of the same number, and clear what was lacking in them. One that
   * was complete and is not any more says what is left.
   */
  learn(complete: boolean, pages: HavePage[]): void {
    if (complete) {
      if (!this.#complete) this.#lacking.clear()
      this.#complete = true
      this.#pages.clear()
      return
    }
    this.#complete = false
    const told = new Set<number>()
    for (const { page, bitmap } of pages) {
      if (this.#pages.size >= MAX_HAVE_PAGES && !this.#pages.has(page)) continue
      this.#pages.set(page, Uint8Array.from(bitmap))
      told.add(page)
    }
    for (const block of this.#lacking) if (told.has(Math.floor(block / INDEX_FANOUT))) this.#lacking.delete(block)
  }

  /** It was asked for this block and did not have it. */
  lacks(block: number): void {
    this.#lacking.add(block)
    if (this.#lacking.size <= MAX_LACKING) return
    this.#complete = false
    this.#lacking.clear()
  }

  /** Gives what was lacking another chance. */
  forgive(): void {
    this.#lacking.clear()
  }
}
