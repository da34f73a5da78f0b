/**
 * An image as far as it is here: for each block, where it lies.
 *
 * A *slot page* (slot-pages.ts) maps the 1,024 blocks of an index page to slots of the pool. It is made when one of its
 * blocks is first asked for, from the index page and the pool's table; so `locate` is two array look-ups afterwards,
 * and the same in the threads that serve disks, which share the pages (slot-view.ts). Only what is not a plain answer goes a longer way:
 * a block that is absent is looked for in the pool again (another image may have brought it), one whose slot is suspect
 * is hashed.
 *
 * Counts are exact for the index pages that are here. Images up to 4 GiB are counted when they are opened (8 ms for
 * all 64 pages); a larger one is counted page by page in the background, see `recount`. Nothing is written down, so
 * nothing can be out of date.
 *
 * An image that nobody uses (`use`) may be closed for another; as it then hears of no slot that is dropped, it tells of none.
 *
 * Owns: what stands in the slot pages. Does not own: blocks (pool.ts), nodes (index-tree.ts).
 */
import { INDEX_FANOUT } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import { childCount, nodeCount } from '../image/geometry.ts'
import type { Hash } from '../image/hash.ts'
import type { ImageRoot } from '../image/image-root.ts'
import type { IndexTree, NodeRef } from './index-tree.ts'
import { PageCounter } from './page-counter.ts'
import { PageCounts } from './page-counts.ts'
import type { UseClock } from './page-uses.ts'
import type { Pool } from './pool.ts'
import type { DroppedBlocks } from './pool-types.ts'
import { ABSENT, makeSlotPage, SlotPages, slotOf, UNKNOWN, uncheckedSlot, ZERO } from './slot-pages.ts'
import type { SharedImage } from './slot-view.ts'
import { Users } from './users.ts'

export { ABSENT, MAX_SLOT_PAGES, UNKNOWN, ZERO } from './slot-pages.ts'

export interface LocalImageComponents {
  id: string
  rootBytes: Uint8Array
  tree: IndexTree
  pool: Pool
  /** When each page was last used, and what minute it is. */
  uses: { minutes: Uint32Array; clock: UseClock }
  /** A page of its index came. */
  onPage: (image: LocalImage, page: number) => void
  /** Somebody needs it no longer. */
  onUnused: () => void
}

export class LocalImage {
  readonly id: string
  readonly root: ImageRoot
  readonly rootBytes: Uint8Array
  readonly #tree: IndexTree
  readonly #pool: Pool
  readonly #pages: SlotPages
  readonly #counts: PageCounts
  readonly #counter: PageCounter
  readonly #uses: LocalImageComponents['uses']
  readonly #onPage: (image: LocalImage, page: number) => void
  readonly #users: Users
  #isClosed = false

  constructor({ id, rootBytes, tree, pool, uses, onPage, onUnused }: LocalImageComponents) {
    this.id = id
    this.root = tree.root
    this.rootBytes = rootBytes
    this.#tree = tree
    this.#pool = pool
    const pages = nodeCount(0, this.root.blocks)
    this.#pages = new SlotPages(pages)
    this.#counts = new PageCounts(pages)
    this.#counter = new PageCounter({ tree, pool, counts: this.#counts, pages })
    this.#uses = uses
    this.#onPage = onPage
    this.#users = new Users(onUnused)
  }

  /**
   * Where `block` is: a slot of the pool (0 or more), ZERO, ABSENT or UNKNOWN. Throws OUT_OF_RANGE for a block that the
   * image does not have, STORE_IO or CATALOG_CORRUPT when the store fails. Counts as a use of the block's page.
   */
  locate(block: number): number {
    const page = block >>> 10
    this.#use(page)
    const slot = this.#pages.get(page)?.[block & 1023]
    return slot !== undefined && slot >= ZERO ? slot : this.#locateSlowly(block)
  }

  /** As `locate`, from the tables alone: no use is counted, and a slot that is suspect counts as here, unread. */
  peek(block: number): number {
    const page = this.#pageOf(block)
    const slot = page?.[block & 1023]
    if (slot === undefined) return UNKNOWN
    if (slot >= ZERO) return slot
    const hash = this.hashOf(block)
    if (hash === undefined) return UNKNOWN
    const found = this.#pool.find(hash)
    return found === -1 ? ABSENT : found
  }

  /** Reads and hashes a block that is here. One that cannot be read, or is rotten, is dropped: false. */
  recheck(block: number): boolean {
    const slot = this.locate(block)
    const hash = slot >= 0 ? this.hashOf(block) : undefined
    if (hash === undefined) return slot === ZERO
    if (this.#pool.confirm(slot, hash)) return true
    this.forget(block)
    return false
  }

  /** The hash of a block; undefined when it is ZERO or UNKNOWN (`locate` tells which). */
  hashOf(block: number): Hash | undefined {
    this.#mustHave(block)
    const node = this.#tree.node(0, block >>> 10)
    return typeof node === 'string' ? undefined : node.hashAt(block & 1023)
  }

  /** The nodes on the path to `block` that are not here, top first; those below the first have no hash yet. */
  missingNodes(block: number): NodeRef[] {
    this.#mustHave(block)
    return this.#tree.missingNodes(block)
  }

  /**
   * Takes a node that somebody sent. Its parent must be here. Known at once; resolves when it is kept.
   *
   * Throws INDEX_INVALID (wrong hash, wrong place, malformed), DISK_FULL or STORE_IO.
   */
  async addNode(level: number, position: number, bytes: Uint8Array): Promise<void> {
    const taken = this.#tree.take(level, position, bytes)
    if (level === 0) {
      this.#page(position)
      this.#onPage(this, position)
    } else this.#counter.zeros(level, position, taken.node)
    try {
      await this.#tree.save(taken)
    } catch (error) {
      if (level === 0) this.#forgetPage(position)
      throw error
    }
  }

  /** The bytes of a node that is here, for another peer. */
  nodeBytes(level: number, position: number): Uint8Array | undefined {
    return this.#tree.nodeBytes(level, position)
  }

  /** A verified block of this image is in the pool at `slot`; if it has been dropped since, nothing happens. */
  stored(block: number, slot: number): void {
    const page = this.#pageOf(block)
    const before = page?.[block & 1023]
    if (page === undefined || before === undefined || before === ZERO) {
      throw new RowanError('INTERNAL', `block ${block} of the image ${this.id} cannot have been verified`)
    }
    this.#use(block >>> 10)
    // Between its put and this call it may have been evicted, and the slot hold another block by now.
    const hash = this.hashOf(block)
    if (hash !== undefined && this.#pool.find(hash) === slot) this.#found(page, block, slot)
  }

  /** A block of this image is not in the pool any more. */
  forget(block: number): void {
    const before = this.#pages.get(block >>> 10)?.[block & 1023]
    if (before === undefined || before === ZERO || before === ABSENT) return
    this.#pages.set(block >>> 10, block & 1023, ABSENT)
    this.#counts.change(block >>> 10, -1)
  }

  /** Data blocks that are here, and data blocks in all; zero blocks count as neither. */
  get local(): { blocks: number; of: number } {
    const of = this.#counts.isComplete ? this.#counts.data : this.root.blocks - this.root.zeroBlocks
    return { blocks: this.#counts.here, of }
  }

  /** Whether the whole index and every data block are here. */
  get complete(): boolean {
    return this.#counts.isComplete && this.#counts.here === this.#counts.data
  }

  /** Whether every page of the index is here. */
  get indexComplete(): boolean {
    return this.#counts.isComplete
  }

  /**
   * Data blocks that are not here, in order, as it goes along. Blocks of pages that are not here are left out.
   */
  *eachMissing(): Iterable<number> {
    for (let page = 0; page < this.#pages.length; page++) {
      if (this.#counts.isFull(page)) continue
      const slots = this.#page(page)
      for (const index of slots?.keys() ?? []) {
        const block = page * INDEX_FANOUT + index
        if (this.locate(block) === ABSENT) yield block
      }
    }
  }

  /** Index pages that are not here, in order: what has to be known before eachMissing() is all that is missing. */
  *eachUnknownPage(): Iterable<number> {
    for (let page = 0; page < this.#pages.length; page++) {
      if (!this.#counts.isKnown(page) && this.#page(page) === undefined) yield page
    }
  }

  /**
   * Which data blocks of an index page are here: one bit for each block, least significant first. Undefined if the
   * page is not here.
   */
  haveBitmap(page: number): Uint8Array | undefined {
    this.#mustHave(page * INDEX_FANOUT)
    const slots = this.#page(page)
    if (slots === undefined) return undefined
    const bits = new Uint8Array(Math.ceil(childCount(0, page, this.root.blocks) / 8))
    for (const [index, slot] of slots.entries()) {
      if (slotOf(slot) >= 0) bits[index >> 3]! |= 1 << (index & 7)
    }
    return bits
  }

  /** The 64 KiB of a block for another peer, hashed just now; undefined if it is not here, zero, or rotten. */
  async verified(block: number): Promise<Uint8Array | undefined> {
    const slot = this.locate(block)
    const hash = slot >= 0 ? this.hashOf(block) : undefined
    return hash === undefined ? undefined : this.#pool.readVerified(slot, hash)
  }

  /** Counts the pages that were not counted yet, giving way between them. Ends early when the image is closed. */
  async recount(): Promise<void> {
    if (this.#isClosed) return
    const end = this.use()
    try {
      this.#counter.upper()
      for (let page = 0; page < this.#pages.length; page++) {
        if (this.#isClosed) return
        if (this.#counts.isKnown(page)) continue
        this.#counter.page(page)
        await new Promise(resolve => setImmediate(resolve))
      }
    } finally {
      end()
    }
  }

  /** Counts all pages now. For images with few of them. */
  countNow(): void {
    this.#counter.upper()
    for (let page = 0; page < this.#pages.length; page++) {
      if (!this.#counts.isKnown(page)) this.#page(page)
    }
  }

  /**
   * The pool has dropped these blocks. Returns the pages that lost some, and whether pages that were counted without a
   * slot page may have, and are to be counted again.
   */
  blocksDropped(dropped: DroppedBlocks): { pages: number[]; isStale: boolean } {
    const pages: number[] = []
    for (const page of this.#pages.made()) {
      const slots = this.#pages.get(page)!
      let lost = 0
      for (let index = 0; index < slots.length; index++) {
        const slot = slotOf(slots[index]!)
        if (slot < 0 || !dropped.has(slot)) continue
        this.forget(page * INDEX_FANOUT + index)
        lost++
      }
      if (lost > 0) pages.push(page)
    }
    let isStale = false
    for (let page = 0; page < this.#pages.length; page++) {
      if (this.#pages.get(page) !== undefined || this.#counts.isEmpty(page)) continue
      this.#counts.unset(page)
      pages.push(page)
      isStale = true
    }
    return { pages, isStale }
  }

  /**
   * For a thread that reads the image: what is shared with it, and, through `onPage`, each slot page that is made, now
   * and later. It must join the pool's readers first. `end` is for when it is gone.
   */
  share(onPage: (page: number, slots: Int32Array) => void): { image: SharedImage; end: () => void } {
    const { sizeBytes, blocks } = this.root
    if (this.#isClosed) throw this.#closed()
    const { minutes: usedMinutes, clock } = this.#uses
    const ends = [this.#pages.onPage(onPage), this.use()]
    const end = () => {
      for (const each of ends) each()
    }
    return { image: { id: this.id, sizeBytes, blocks, usedMinutes, minute: clock.shared }, end }
  }

  /** Makes the slot pages of index pages that are here, giving way between them. Ends early when `isOver`. */
  async makePages(limit: number, isOver: () => boolean): Promise<void> {
    for (let page = 0; page < Math.min(limit, this.#pages.length); page++) {
      if (this.#pages.get(page) !== undefined) continue
      if (isOver() || this.#isClosed) return
      this.#page(page)
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  /**
   * From now until the returned function is called somebody needs the image open.
   *
   * @param isNeeded - for who keeps it, but needs it only at times: whether now
   */
  use(isNeeded?: () => boolean): () => void {
    return this.#users.add(isNeeded)
  }

  get isUsed(): boolean {
    return this.#users.anyNeeds
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Ends what runs in the background. What was counted stays; where blocks are nobody is told any more. */
  close(): void {
    this.#isClosed = true
    for (const page of [...this.#pages.made()]) this.#pages.forget(page)
  }

  #closed(): RowanError {
    return new RowanError('DISK_CLOSED', `the image ${this.id} is not open any more`)
  }

  #locateSlowly(block: number): number {
    const page = this.#pageOf(block)
    if (page === undefined) return UNKNOWN
    const index = block & 1023
    const before = page[index]!
    if (before >= ZERO) return before
    const hash = this.hashOf(block)
    // The page was evicted and its node has been lost since.
    if (hash === undefined) return UNKNOWN
    const slot = this.#pool.find(hash)
    if (slot === -1 || (this.#pool.isSuspect(slot) && !this.#pool.confirm(slot, hash))) {
      this.forget(block)
      return ABSENT
    }
    this.#found(page, block, slot)
    return slot
  }

  #use(page: number): void {
    const { minutes, clock } = this.#uses
    if (minutes[page]! < clock.minute) minutes[page] = clock.minute
  }

  #found(page: Int32Array, block: number, slot: number): void {
    if (page[block & 1023] === ABSENT) this.#counts.change(block >>> 10, 1)
    this.#pages.set(block >>> 10, block & 1023, slot)
  }

  #pageOf(block: number): Int32Array | undefined {
    this.#mustHave(block)
    return this.#page(block >>> 10)
  }

  /** The slot page, made if the index page is here. */
  #page(page: number): Int32Array | undefined {
    const made = this.#pages.get(page)
    if (made !== undefined) return made
    if (this.#isClosed) throw this.#closed()
    const node = this.#tree.node(0, page)
    if (node === 'unknown') return undefined
    const children = childCount(0, page, this.root.blocks)
    if (node === 'zero') {
      this.#counts.set(page, 0, 0)
      return this.#pages.addZero(page, children)
    }
    const slots = makeSlotPage(children)
    let here = 0
    for (let index = 0; index < children; index++) {
      const hash = node.hashAt(index)
      const slot = hash === undefined ? ZERO : this.#pool.find(hash)
      if (hash === undefined) slots[index] = ZERO
      else if (slot === -1) slots[index] = ABSENT
      else {
        slots[index] = this.#pool.isSuspect(slot) ? uncheckedSlot(slot) : slot
        here++
      }
    }
    this.#counts.set(page, here, node.presentCount)
    return this.#pages.add(page, slots)
  }

  #forgetPage(page: number): void {
    this.#pages.forget(page)
    this.#counts.unset(page)
  }

  #mustHave(block: number): void {
    if (Number.isInteger(block) && block >= 0 && block < this.root.blocks) return
    throw new RowanError('OUT_OF_RANGE', `the image ${this.id} has ${this.root.blocks} blocks, and no block ${block}`)
  }
}
