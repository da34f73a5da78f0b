/**
 * In which order requesters are served.
 *
 * Strict by rank over all requesters: nobody's fill goes before somebody's demand. Within a rank, one item of each requester in turn;
 * within a requester, oldest first. Bounded for each requester. Pure.
 */

import { MAX_QUEUED_PER_REQUESTER } from './limits.ts'
import type { Rank } from './messages.ts'

interface Entry<Job> {
  job: Job
  rank: Rank
}

export class UploadQueue<Requester, Job> {
  readonly #requesters = new Map<Requester, Map<number, Entry<Job>>>()
  /** For each rank, the requesters with work of that rank in the order of their turns, and their items. */
  readonly #lines: Map<Requester, Set<number>>[] = [new Map(), new Map(), new Map(), new Map()]

  /** Items that wait, of one requester. */
  count(requester: Requester): number {
    return this.#requesters.get(requester)?.size ?? 0
  }

  has(requester: Requester, key: number): boolean {
    return this.#requesters.get(requester)?.has(key) ?? false
  }

  /** @returns false when the requester has MAX_QUEUED_PER_REQUESTER items already; an item that waits already may only rise */
  add(requester: Requester, key: number, rank: Rank, job: Job): boolean {
    let items = this.#requesters.get(requester)
    if (items?.has(key)) {
      this.raise(requester, key, rank)
      return true
    }
    if (items === undefined) {
      items = new Map()
      this.#requesters.set(requester, items)
    }
    if (items.size >= MAX_QUEUED_PER_REQUESTER) return false
    items.set(key, { job, rank })
    this.#lineUp(requester, key, rank)
    return true
  }

  /** Moves an item that waits to a more urgent rank. */
  raise(requester: Requester, key: number, rank: Rank): void {
    const entry = this.#requesters.get(requester)?.get(key)
    if (entry === undefined || rank >= entry.rank) return
    this.#stepOut(requester, key, entry.rank)
    entry.rank = rank
    this.#lineUp(requester, key, rank)
  }

  /** @returns whether it was still waiting */
  cancel(requester: Requester, key: number): boolean {
    const items = this.#requesters.get(requester)
    const entry = items?.get(key)
    if (items === undefined || entry === undefined) return false
    this.#stepOut(requester, key, entry.rank)
    items.delete(key)
    if (items.size === 0) this.#requesters.delete(requester)
    return true
  }

  /** Forgets what a requester waits for, as far as `isMeant` says. */
  cancelAll(requester: Requester, isMeant: (key: number) => boolean): void {
    for (const key of [...(this.#requesters.get(requester)?.keys() ?? [])])
      if (isMeant(key)) this.cancel(requester, key)
  }

  /** Forgets all that a requester waits for. */
  drop(requester: Requester): void {
    this.#requesters.delete(requester)
    for (const line of this.#lines) line.delete(requester)
  }

  /** Takes out what is to be served next among the requesters that can take something. */
  next(
    canTake: (requester: Requester, rank: Rank) => boolean
  ): { requester: Requester; key: number; rank: Rank; job: Job } | undefined {
    for (const [rank, line] of this.#lines.entries()) {
      for (const [requester, keys] of line) {
        if (!canTake(requester, rank as Rank)) continue
        const [key] = keys
        const job = key === undefined ? undefined : this.#requesters.get(requester)?.get(key)?.job
        if (key === undefined || job === undefined) continue
        this.cancel(requester, key)
        // To the end of the turns.
        if (line.delete(requester) && keys.size > 0) line.set(requester, keys)
        return { requester, key, rank: rank as Rank, job }
      }
    }
    return undefined
  }

  #lineUp(requester: Requester, key: number, rank: Rank): void {
    const keys = this.#lines[rank]!.get(requester)
    if (keys === undefined) this.#lines[rank]!.set(requester, new Set([key]))
    else keys.add(key)
  }

  #stepOut(requester: Requester, key: number, rank: Rank): void {
    const keys = this.#lines[rank]!.get(requester)
    keys?.delete(key)
    if (keys?.size === 0) this.#lines[rank]!.delete(requester)
  }
}
