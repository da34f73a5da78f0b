/**
 * The slot pages of an image: for each block, the slot of the pool in which it lies, or why it lies in none.
 *
 * A page is an Int32Array over shared memory for the 1,024 blocks of an index page. The pool's thread alone writes to it;
 * threads that serve disks read it while it does (slot-view.ts). What makes that right:
 *
 * - An entry is one aligned 32-bit word, stored and loaded with Atomics: a reader sees an old or a new one, never a mix.
 * - A slot is stored only after the block's bytes were written to the segment file. The store is sequentially
 *   consistent, so who loads it and then reads the file finds them.
 * - A slot that is dropped is taken out of the page first and then told to the readers as an epoch; who has let go of
 *   the epoch looks it up no more, and only then it is given out again (slot-readers.ts).
 * - A page is never used for other blocks. One that is given up is filled with UNKNOWN, for a reader may keep it for ever.
 *
 * Owns: the pages, and who is told of new ones. Does not own: what stands in them (local-image.ts).
 */
import { INDEX_FANOUT } from '../cluster.ts'

/** All zero; nothing is kept for it. */
export const ZERO = -1
export const ABSENT = -2
/** Its index page is not here, or its slot page is not kept: nobody can say. */
export const UNKNOWN = -3
/** From here on down: the block is here, in slot UNCHECKED - value, and nobody has hashed it since an unclean stop. */
const UNCHECKED = -4

/** Slot pages of one image: 64 MiB of memory, for 1 TiB of the image. Beyond, the oldest is made anew when needed. */
export const MAX_SLOT_PAGES = 16_384

/** Shared by all pages that are all zero; never written to. */
const ZERO_PAGE = makeSlotPage(INDEX_FANOUT).fill(ZERO)

/** In shared memory, all zero at first. */
export function makeSlotPage(children: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(children * Int32Array.BYTES_PER_ELEMENT))
}

function zeroSlotPage(children: number): Int32Array {
  return children === INDEX_FANOUT ? ZERO_PAGE : ZERO_PAGE.subarray(0, children)
}

export function uncheckedSlot(slot: number): number {
  return UNCHECKED - slot
}

/** The slot that an entry speaks of, checked or not; negative if none. */
export function slotOf(entry: number): number {
  return entry <= UNCHECKED ? UNCHECKED - entry : entry
}

type PageListener = (page: number, slots: Int32Array) => void

export class SlotPages {
  readonly length: number
  readonly #pages: (Int32Array | undefined)[]
  /** In the order in which they were made, shared zero pages not among them. */
  readonly #made = new Set<number>()
  readonly #listeners = new Set<PageListener>()

  constructor(length: number) {
    this.length = length
    this.#pages = Array.from<undefined>({ length })
  }

  get(page: number): Int32Array | undefined {
    return this.#pages[page]
  }

  /** The pages that are not all zero. */
  made(): Iterable<number> {
    return this.#made
  }

  /** A page whose blocks are all zero. */
  addZero(page: number, children: number): Int32Array {
    return this.#add(page, zeroSlotPage(children))
  }

  /** A page that was just filled. Where there are too many, the oldest is given up. */
  add(page: number, slots: Int32Array): Int32Array {
    const [oldest] = this.#made
    if (this.#made.size >= MAX_SLOT_PAGES) this.forget(oldest!)
    this.#made.add(page)
    return this.#add(page, slots)
  }

  set(page: number, index: number, entry: number): void {
    Atomics.store(this.#pages[page]!, index, entry)
  }

  forget(page: number): void {
    const slots = this.#pages[page]
    this.#pages[page] = undefined
    if (slots === undefined || !this.#made.delete(page)) return
    for (let index = 0; index < slots.length; index++) Atomics.store(slots, index, UNKNOWN)
  }

  /** Calls `listener`, synchronously, for each page that is here, and for those that come. Returns how to end that. */
  onPage(listener: PageListener): () => void {
    for (const [page, slots] of this.#pages.entries()) if (slots !== undefined) listener(page, slots)
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #add(page: number, slots: Int32Array): Int32Array {
    this.#pages[page] = slots
    for (const listener of this.#listeners) listener(page, slots)
    return slots
  }
}
