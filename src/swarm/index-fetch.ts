/**
 * The index of one image, on its way here.
 *
 * Nodes are asked for like blocks, through the scheduler, with the rank of the most urgent block that needs them. A node that comes
 * before its parent waits for it. Where a replica promised the whole index unasked, what is less urgent than demand waits for that
 * instead of asking for the same nodes again: as long as nodes come that were not here.
 */

import { INDEX_FANOUT } from '../cluster.ts'
import type { Clock, Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import type { FetchDriver } from './image-fetch.ts'
import { nodeIsInside } from './index-nodes.ts'
import { EAGER_PATIENCE_MS, MAX_HELD_NODES } from './limits.ts'
import type { IndexPart, NodePlace, Rank } from './messages.ts'
import { itemOf, nodeKey } from './scheduler-types.ts'

export interface IndexFetchComponents {
  number: number
  image: LocalImage
  driver: FetchDriver
  clock: Clock
  /** A page is here now. */
  onPage(page: number): void
  /** A page came, but cannot be kept here. */
  onPageFailed(page: number, error: RowanError): void
}

interface PageWaiter {
  resolve(): void
  reject(error: RowanError): void
}

interface AwaitedPage {
  rank: Rank
  waiters: Set<PageWaiter>
}

export class IndexFetch {
  readonly #components: IndexFetchComponents
  readonly #awaited = new Map<number, AwaitedPage>()
  readonly #held = new Map<number, { peer: string; part: IndexPart }>()
  #eager: { peer: string; left: number; timer: Timer } | undefined

  constructor(components: IndexFetchComponents) {
    this.#components = components
  }

  /** Whether pages are waited for. */
  get isBusy(): boolean {
    return this.#awaited.size > 0
  }

  /** `peer` announced that it will send this many nodes unasked. */
  promised(peer: string, nodes: number): void {
    if (nodes > 0 && this.#eager === undefined) this.#eager = { peer, left: nodes, timer: this.#patience() }
  }

  /** `peer` is gone, and whatever it promised. */
  left(peer: string): void {
    if (this.#eager?.peer === peer) this.#endEager()
  }

  /** Sees to it that a page comes; onPage tells when. */
  wantPage(page: number, rank: Rank): void {
    const awaited = this.#awaited.get(page)
    if (awaited !== undefined && awaited.rank <= rank) return
    if (awaited === undefined) this.#awaited.set(page, { rank, waiters: new Set() })
    else awaited.rank = rank
    if (rank === 0 || this.#eager === undefined) this.#ask(page, rank)
  }

  /** Resolves when the page is here. */
  page(page: number, rank: Rank, signal?: AbortSignal): Promise<void> {
    if (this.#missing(page).length === 0) return Promise.resolve()
    this.wantPage(page, rank)
    return new Promise((resolve, reject) => {
      const waiters = this.#awaited.get(page)?.waiters
      const onAbort = () => {
        waiters?.delete(waiter)
        reject(new RowanError('ABORTED', `page ${page} is not wanted any more`))
      }
      const settled = () => signal?.removeEventListener('abort', onAbort)
      const waiter: PageWaiter = {
        resolve: () => {
          settled()
          resolve()
        },
        reject: error => {
          settled()
          reject(error)
        }
      }
      if (signal?.aborted) return onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      waiters?.add(waiter)
    })
  }

  /** Nodes came. Resolves when those that could be checked are kept. */
  async came(peer: string, parts: IndexPart[], missing: NodePlace[]): Promise<void> {
    const { driver, number, image } = this.#components
    for (const { level, position } of missing) {
      driver.event({ type: 'missing', peer, key: nodeKey(number, level, position), reason: 'absent' })
    }
    for (const part of parts) {
      if (!nodeIsInside(image.root, part)) {
        driver.accuse(peer, new RowanError('INDEX_INVALID', `a node at level ${part.level}, outside the image`))
        return
      }
      driver.event({
        type: 'answered',
        peer,
        key: nodeKey(number, part.level, part.position),
        bytes: part.bytes.byteLength
      })
    }
    let isNews = false
    for (const part of parts) if (await this.#take(peer, part)) isNews = true
    if (this.#eager?.peer !== peer) return
    this.#eager.left -= parts.length
    if (this.#eager.left <= 0) this.#endEager()
    // Else whoever sends nothing new, again and again, could keep everybody waiting.
    if (!isNews || this.#eager === undefined) return
    this.#eager.timer.cancel()
    this.#eager.timer = this.#patience()
  }

  stop(error: RowanError): void {
    this.#eager?.timer.cancel()
    for (const page of [...this.#awaited.keys()]) this.#pageFailed(page, error)
  }

  /** @returns whether it was not here before */
  async #take(peer: string, part: IndexPart): Promise<boolean> {
    const { driver, number, image } = this.#components
    const key = nodeKey(number, part.level, part.position)
    const firstPage = part.position * INDEX_FANOUT ** part.level
    const next = this.#missing(firstPage)[0]
    if (next !== undefined && next.level > part.level) {
      // Its parent is not here yet. Where too many wait for theirs it is not done, and so asked for again.
      if (this.#held.size >= MAX_HELD_NODES) return false
      const isNews = !this.#held.has(key)
      this.#held.set(key, { peer, part })
      driver.event({ type: 'done', key })
      return isNews
    }
    let isNews = false
    if (next !== undefined && next.level === part.level) {
      // Kept after the answer is taken note of: the scheduler must not ask again meanwhile.
      driver.event({ type: 'done', key })
      try {
        await image.addNode(part.level, part.position, part.bytes)
        isNews = true
      } catch (cause) {
        this.#refused(peer, part, asRowanError(cause, 'STORE_IO', 'a node of an index could not be kept'))
        return false
      }
    } else driver.event({ type: 'done', key })
    if (part.level === 0) this.#pageCame(part.position)
    else await this.#parentCame(part)
    return isNews
  }

  /** Nodes below this one that came too early, and pages that are known now because they are all zero. */
  async #parentCame(parent: IndexPart): Promise<void> {
    for (const [key, held] of [...this.#held]) {
      const item = itemOf(key)
      if (item.kind !== 'node' || item.level !== parent.level - 1) continue
      if (Math.floor(item.position / INDEX_FANOUT) !== parent.position) continue
      this.#held.delete(key)
      await this.#take(held.peer, held.part)
    }
    for (const page of [...this.#awaited.keys()]) if (this.#missing(page).length === 0) this.#pageCame(page)
  }

  #refused(peer: string, part: IndexPart, error: RowanError): void {
    const { driver, number } = this.#components
    const firstPage = part.position * INDEX_FANOUT ** part.level
    if (error.code !== 'INDEX_INVALID') {
      // Not the peer's fault. Asking again would end the same way, so those who wait are told.
      const pages = INDEX_FANOUT ** part.level
      for (const page of [...this.#awaited.keys()]) {
        if (page >= firstPage && page < firstPage + pages) this.#pageFailed(page, error)
      }
      return
    }
    driver.accuse(peer, error)
    const rank = this.#rankBelow(part)
    if (rank !== undefined) driver.event({ type: 'want', key: nodeKey(number, part.level, part.position), rank })
  }

  /** The most urgent rank of the pages below a node that somebody waits for. */
  #rankBelow(place: NodePlace): Rank | undefined {
    const first = place.position * INDEX_FANOUT ** place.level
    const end = first + INDEX_FANOUT ** place.level
    let rank: Rank | undefined
    for (const [page, awaited] of this.#awaited) {
      if (page >= first && page < end && (rank === undefined || awaited.rank < rank)) rank = awaited.rank
    }
    return rank
  }

  #ask(page: number, rank: Rank): void {
    const { driver, number } = this.#components
    for (const { level, position } of this.#missing(page)) {
      const key = nodeKey(number, level, position)
      if (!this.#held.has(key)) driver.event({ type: 'want', key, rank })
    }
  }

  /** The nodes on the way to a page that are not here, top first. */
  #missing(page: number): NodePlace[] {
    return this.#components.image.missingNodes(page * INDEX_FANOUT)
  }

  #pageCame(page: number): void {
    const awaited = this.#awaited.get(page)
    this.#awaited.delete(page)
    this.#components.onPage(page)
    for (const waiter of awaited?.waiters ?? []) waiter.resolve()
  }

  #pageFailed(page: number, error: RowanError): void {
    const awaited = this.#awaited.get(page)
    this.#awaited.delete(page)
    this.#components.onPageFailed(page, error)
    for (const waiter of awaited?.waiters ?? []) waiter.reject(error)
  }

  #patience(): Timer {
    return this.#components.clock.after(EAGER_PATIENCE_MS, () => this.#endEager())
  }

  #endEager(): void {
    this.#eager?.timer.cancel()
    this.#eager = undefined
    for (const [page, { rank }] of [...this.#awaited]) {
      try {
        this.#ask(page, rank)
      } catch (cause) {
        // Called by a timer: nobody else would hear of it.
        this.#pageFailed(page, asRowanError(cause, 'STORE_IO', 'the index of an image could not be read'))
      }
    }
  }
}
