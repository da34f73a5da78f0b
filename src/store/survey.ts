/**
 * A survey of the pool: for each slot, the best reason that its block has to stay, and its last use.
 *
 * All images whose root is here are walked, page by page, giving way to others in between: a pool of 50 GB takes about
 * a second of work. Meanwhile things change, and the survey follows: a block that is dropped is nobody's any more, one
 * that comes is not judged at all, a page of an index that comes raises what it names. Only that an image is pinned
 * which was not, it cannot follow: `isOutdated` tells, and then it must be made again.
 *
 * Owns: the standings, while it is open. Does not own: the reasons (whoever assembles the peer), the choice (eviction.ts).
 */
import { INDEX_FANOUT } from '../cluster.ts'
import { nodeCount } from '../image/geometry.ts'
import type { PackedNode } from '../image/index-node.ts'
import { REASON, type Reason, reasonIn, standingOf } from './eviction.ts'
import type { Images } from './images.ts'
import type { LocalImage } from './local-image.ts'
import type { PageUses } from './page-uses.ts'
import type { Pool } from './pool.ts'

/** Pages between two turns of everybody else: about 2 ms. */
const PAGES_AT_A_STRETCH = 4

/** Why images stay. Synchronous, because it is asked again right before blocks are dropped. */
export interface StayReasons {
  /** By image id; one that is not in it is `old`. */
  reasons(): ReadonlyMap<string, Reason>
}

export interface SurveyComponents {
  pool: Pick<Pool, 'find' | 'has' | 'isHeld' | 'slotLimit' | 'onDropped'>
  images: Pick<Images, 'list' | 'index' | 'onPage'> & { uses: Pick<PageUses, 'read' | 'clock'> }
  stay: StayReasons
}

export class Survey {
  readonly standings: Uint32Array
  readonly #components: SurveyComponents
  /** The reasons that the standings are made from. */
  readonly #reasons = new Map<string, Reason>()
  readonly #endings: (() => void)[] = []

  private constructor(components: SurveyComponents) {
    this.#components = components
    const { pool, images } = components
    this.standings = new Uint32Array(pool.slotLimit)
    for (let slot = 0; slot < this.standings.length; slot++) {
      if (pool.has(slot)) this.standings[slot] = standingOf(REASON.none, 0)
    }
    this.#endings.push(
      pool.onDropped(dropped => {
        for (const slot of dropped.keys()) if (slot < this.standings.length) this.standings[slot] = 0
      }),
      images.onPage((image, page) => this.#pageCame(image, page))
    )
  }

  /** Walks all images. Close it afterwards. @throws CATALOG_CORRUPT, STORE_IO */
  static async make(components: SurveyComponents): Promise<Survey> {
    const survey = new Survey(components)
    try {
      await survey.#walk()
      return survey
    } catch (error) {
      survey.close()
      throw error
    }
  }

  /** Whether an image has a better reason to stay now than it was judged by. */
  get isOutdated(): boolean {
    for (const [id, reason] of this.#components.stay.reasons()) {
      if (reason > (this.#reasons.get(id) ?? REASON.none)) return true
    }
    return false
  }

  /** Blocks that never go. */
  get pinnedBlocks(): number {
    let pinned = 0
    for (const standing of this.standings) if (reasonIn(standing) === REASON.pinned) pinned++
    return pinned
  }

  /** From now on blocks that are held by a publisher are not judged. */
  leaveHeld(): void {
    const { pool } = this.#components
    for (let slot = 0; slot < this.standings.length; slot++) {
      if (this.standings[slot]! > 0 && pool.isHeld(slot)) this.standings[slot] = 0
    }
  }

  close(): void {
    for (const end of this.#endings) end()
  }

  async #walk(): Promise<void> {
    const { images, stay } = this.#components
    const reasons = stay.reasons()
    let untilRest = PAGES_AT_A_STRETCH
    for await (const id of images.list()) {
      const index = await images.index(id)
      if (index === undefined) continue
      const reason = this.#judged(id, reasons)
      const pages = nodeCount(0, index.root.blocks)
      const minutes = images.uses.read(id, pages)
      for (let page = 0; page < pages; page++) {
        const node = index.node(0, page)
        if (typeof node !== 'string') this.#mark(node, standingOf(reason, minutes[page]!))
        if (--untilRest > 0) continue
        untilRest = PAGES_AT_A_STRETCH
        await new Promise(resolve => setImmediate(resolve))
      }
    }
    // An image of which nothing is here yet has been judged, too: there was nothing to walk.
    for (const id of reasons.keys()) if (!this.#reasons.has(id)) this.#judged(id, reasons)
  }

  #judged(id: string, reasons: ReadonlyMap<string, Reason>): Reason {
    const known = this.#reasons.get(id)
    if (known !== undefined) return known
    const reason = reasons.get(id) ?? REASON.old
    this.#reasons.set(id, reason)
    return reason
  }

  #mark(node: PackedNode, standing: number): void {
    const { pool } = this.#components
    for (let index = 0; index < node.childCount; index++) {
      const hash = node.hashAt(index)
      if (hash !== undefined) this.#raise(pool.find(hash), standing)
    }
  }

  #pageCame(image: LocalImage, page: number): void {
    const { pool, images, stay } = this.#components
    const standing = standingOf(this.#judged(image.id, stay.reasons()), images.uses.clock.minute)
    const first = page * INDEX_FANOUT
    for (let block = first; block < Math.min(first + INDEX_FANOUT, image.root.blocks); block++) {
      const hash = image.hashOf(block)
      if (hash !== undefined) this.#raise(pool.find(hash), standing)
    }
  }

  /** What came since the survey began has no standing, and gets none. */
  #raise(slot: number, standing: number): void {
    if (slot >= 0 && slot < this.standings.length && this.standings[slot]! > 0) {
      this.standings[slot] = Math.max(this.standings[slot]!, standing)
    }
  }
}
