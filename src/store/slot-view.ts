/**
 * An image as a thread sees it that serves a disk: the slot pages that the pool's thread has told it of.
 *
 * `locate` is two look-ups and takes nothing from the other thread. All that is no plain answer (a page that has not come,
 * a slot that nobody has hashed, a block that is not here) is the other thread's: it is asked for the block, and by the
 * time that it has answered the page says where the block lies. slot-pages.ts says why reading while it writes is right.
 *
 * What is looked up is used at once, in the same turn of the event loop, and looked up anew in the next one: between two
 * turns the thread lets go of slots that were dropped.
 */
import { nodeCount } from '../image/geometry.ts'
import { ABSENT, slotOf, UNKNOWN, ZERO } from './slot-pages.ts'

/** Memory that an image shares with those who read it from other threads. Can be sent to one. */
export interface SharedImage {
  id: string
  sizeBytes: number
  blocks: number
  /** When each page was last used, in minutes. */
  usedMinutes: Uint32Array
  /** The minute that a use is noted with: one number. */
  minute: Uint32Array
}

export class SlotView {
  readonly id: string
  readonly root: { readonly sizeBytes: number }
  readonly #image: SharedImage
  readonly #pages: (Int32Array | undefined)[]
  readonly #suspect: (block: number) => void

  /** @param suspect - told of a block whose slot could not be read */
  constructor(image: SharedImage, suspect: (block: number) => void) {
    this.id = image.id
    this.root = { sizeBytes: image.sizeBytes }
    this.#image = image
    this.#pages = Array.from<undefined>({ length: nodeCount(0, image.blocks) })
    this.#suspect = suspect
  }

  /** A page came, for the first time or made anew. */
  add(page: number, slots: Int32Array): void {
    this.#pages[page] = slots
  }

  /** A slot that can be read, ZERO, ABSENT or UNKNOWN. Counts as a use of the block's page. */
  locate(block: number): number {
    const page = block >>> 10
    const minute = this.#image.minute[0]!
    // Two threads may both find an old minute: they store the same.
    if (this.#image.usedMinutes[page]! < minute) this.#image.usedMinutes[page] = minute
    const slots = this.#pages[page]
    if (slots === undefined) return UNKNOWN
    const entry = Atomics.load(slots, block & 1023)
    return entry >= UNKNOWN ? entry : ABSENT
  }

  /** As `locate`, without counting as a use; a slot that nobody has hashed yet counts as here. */
  peek(block: number): number {
    const slots = this.#pages[block >>> 10]
    return slots === undefined ? UNKNOWN : slotOf(Atomics.load(slots, block & 1023))
  }

  /**
   * Tells the other thread that a block could not be read. Whether it is rotten is seen there, before it answers whoever
   * asks for the block next; until then it counts as not here.
   */
  recheck(block: number): boolean {
    this.#suspect(block)
    return this.locate(block) === ZERO
  }
}
