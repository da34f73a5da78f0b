/**
 * Blocks that this peer fetches because a neighbour asked for them (neighbours.ts says why neighbours do).
 *
 * Only for who is near, only blocks of an image that a disk here is using or a fill completes, and bounded: so many at a time for one
 * neighbour and in all; of blocks that nobody wanted here, a share of the image for each use of it; for a fill, only what is being fetched here
 * anyway. What cannot be had within a time is refused, so that a neighbour never waits for long without an answer.
 *
 * Owns: who waits for what, until the block is here and stands in the queue of the server, or does not come.
 */

import type { Clock, Timer } from '../environment.ts'
import type { BlockWaiter } from './image-fetch.ts'
import { MAX_ON_BEHALF, MAX_ON_BEHALF_PER_REQUESTER, ON_BEHALF_TIMEOUT_MS } from './limits.ts'
import type { Rank } from './messages.ts'

const FILL: Rank = 3

/** An image that is in use here. */
export interface FetchedOnBehalf {
  /** Whether somebody here waits for this block. */
  wants(block: number): boolean
  request(block: number, waiter: BlockWaiter): () => void
  /** Takes one block from what may be fetched for others alone; false when nothing is left of it. */
  spend(): boolean
}

export interface OnBehalfComponents<Requester, Job> {
  /** The block is here, and can be served. */
  arrived(requester: Requester, key: number, rank: Rank, job: Job): void
  /** It does not come. */
  failed(requester: Requester, key: number): void
  clock: Clock
}

interface Errand<Job> {
  fetch: FetchedOnBehalf
  block: number
  rank: Rank
  job: Job
  giveUp: () => void
  timer: Timer
}

export class OnBehalf<Requester, Job> {
  readonly #components: OnBehalfComponents<Requester, Job>
  readonly #errands = new Map<Requester, Map<number, Errand<Job>>>()
  #count = 0

  constructor(components: OnBehalfComponents<Requester, Job>) {
    this.#components = components
  }

  count(requester: Requester): number {
    return this.#errands.get(requester)?.size ?? 0
  }

  /** @returns false where it is refused */
  take(
    requester: Requester,
    key: number,
    fetch: FetchedOnBehalf,
    what: { block: number; rank: Rank; job: Job }
  ): boolean {
    const { block, rank } = what
    if (this.#errands.get(requester)?.has(key)) {
      this.raise(requester, key, rank)
      return true
    }
    if (this.count(requester) >= MAX_ON_BEHALF_PER_REQUESTER || this.#count >= MAX_ON_BEHALF) return false
    if (!fetch.wants(block) && (rank === FILL || !fetch.spend())) return false
    const timer = this.#components.clock.after(ON_BEHALF_TIMEOUT_MS, () => {
      if (this.cancel(requester, key)) this.#components.failed(requester, key)
    })
    const errand: Errand<Job> = { ...what, fetch, giveUp: () => undefined, timer }
    let errands = this.#errands.get(requester)
    if (errands === undefined) {
      errands = new Map()
      this.#errands.set(requester, errands)
    }
    errands.set(key, errand)
    this.#count++
    this.#fetch(requester, key, errand)
    return true
  }

  /** The neighbour needs it more urgently. */
  raise(requester: Requester, key: number, rank: Rank): void {
    const errand = this.#errands.get(requester)?.get(key)
    if (errand === undefined || rank >= errand.rank) return
    errand.rank = rank
    const before = errand.giveUp
    this.#fetch(requester, key, errand)
    before()
  }

  /** @returns whether it was still under way */
  cancel(requester: Requester, key: number): boolean {
    const errand = this.#remove(requester, key)
    errand?.giveUp()
    return errand !== undefined
  }

  /** Forgets what a requester waits for; all of it, or what `isMeant` says. */
  drop(requester: Requester, isMeant: (key: number) => boolean = () => true): void {
    for (const key of [...(this.#errands.get(requester)?.keys() ?? [])]) if (isMeant(key)) this.cancel(requester, key)
  }

  #fetch(requester: Requester, key: number, errand: Errand<Job>): void {
    const giveUp = errand.fetch.request(errand.block, {
      rank: errand.rank,
      relied: true,
      resolve: () => {
        if (this.#remove(requester, key)) this.#components.arrived(requester, key, errand.rank, errand.job)
      },
      reject: () => {
        if (this.#remove(requester, key)) this.#components.failed(requester, key)
      }
    })
    errand.giveUp = giveUp
  }

  #remove(requester: Requester, key: number): Errand<Job> | undefined {
    const errands = this.#errands.get(requester)
    const errand = errands?.get(key)
    if (errands === undefined || errand === undefined) return undefined
    errand.timer.cancel()
    errands.delete(key)
    if (errands.size === 0) this.#errands.delete(requester)
    this.#count--
    return errand
  }
}
