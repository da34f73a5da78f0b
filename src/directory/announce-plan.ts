/**
 * When what must be announced again: a pure policy, without timers or network.
 *
 * What this peer serves is announced under the image, and under each appliance that the image belongs to. Each of
 * these is renewed at a third of the TTL, give or take a tenth, so that a holder sees three announcements before it
 * forgets, and those of many images or peers do not come all at once. An announcement that nobody took is tried again
 * soon, with growing patience; so is one that found too few holders, because the network may only just be gathering.
 */

import type { Random } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { ANNOUNCE_RETRY_MS, FULL_SET_OF_HOLDERS, MAX_ANNOUNCEMENTS, RENEWAL_JITTER, THIN_RETRY_MS } from './limits.ts'
import { jittered } from './sampling.ts'

export interface Announcement {
  image: string
  /** Announced under this appliance; under the image itself if absent. */
  appliance?: string
  complete: boolean
}

interface Item {
  announcement: Announcement
  /** Undefined while it is under way. */
  dueMs: number | undefined
  /** Changed while it was under way: due again as soon as that is over. */
  isStale: boolean
  failures: number
  /** In a row, with fewer holders than a full set. */
  thin: number
}

export class AnnouncePlan {
  readonly #random: Random
  readonly #ttlMs: number
  readonly #items = new Map<string, Item>()

  constructor(components: { random: Random }, settings: { ttlMs: number }) {
    this.#random = components.random
    this.#ttlMs = settings.ttlMs
  }

  /**
   * From now on this is kept announced. What is new or has become complete is due at once.
   *
   * @param now - monotonic milliseconds, as in all steps
   * @throws LIMIT_EXCEEDED with more than MAX_ANNOUNCEMENTS
   */
  add(image: string, appliance: string | undefined, complete: boolean, now: number): void {
    this.#addOne({ image, complete }, now)
    if (appliance !== undefined) this.#addOne({ image, appliance, complete }, now)
    for (const item of this.#items.values()) {
      if (item.announcement.image === image && item.announcement.complete !== complete) {
        this.#addOne({ ...item.announcement, complete }, now)
      }
    }
  }

  /** No longer. Returns under what it was announced. */
  remove(image: string): Announcement[] {
    const removed = [...this.#items].filter(([, item]) => item.announcement.image === image)
    for (const [id] of removed) this.#items.delete(id)
    return removed.map(([, item]) => item.announcement)
  }

  /** Everything again, now: this peer's addresses have changed. */
  renewAll(now: number): void {
    for (const item of this.#items.values()) hasten(item, now)
  }

  /** Up to `count` that are due, the longest due first; each is under way until `done` is told. */
  due(now: number, count: number): Announcement[] {
    const due = [...this.#items.values()].filter(item => item.dueMs !== undefined && item.dueMs <= now)
    const chosen = due.toSorted((a, b) => a.dueMs! - b.dueMs!).slice(0, count)
    for (const item of chosen) item.dueMs = undefined
    return chosen.map(item => item.announcement)
  }

  /** What came of one that was due: how many holders were asked, and how many keep it. */
  done(announcement: Announcement, outcome: { asked: number; kept: number }, now: number): void {
    const item = this.#items.get(idOf(announcement))
    if (item === undefined || item.dueMs !== undefined) return
    item.failures = outcome.kept === 0 ? item.failures + 1 : 0
    item.thin = outcome.kept > 0 && outcome.asked < FULL_SET_OF_HOLDERS ? item.thin + 1 : 0
    item.dueMs = item.isStale ? now : now + jittered(this.#delayMs(item), RENEWAL_JITTER, this.#random)
    item.isStale = false
  }

  /** When something is due next; undefined when nothing is planned. */
  nextMs(): number | undefined {
    let next: number | undefined
    for (const { dueMs } of this.#items.values()) {
      if (dueMs !== undefined && dueMs < (next ?? Infinity)) next = dueMs
    }
    return next
  }

  get size(): number {
    return this.#items.size
  }

  #delayMs(item: Item): number {
    const renewalMs = this.#ttlMs / 3
    if (item.failures > 0) return Math.min(renewalMs, ANNOUNCE_RETRY_MS * 2 ** (item.failures - 1))
    if (item.thin > 0) return Math.min(renewalMs, THIN_RETRY_MS * 2 ** (item.thin - 1))
    return renewalMs
  }

  #addOne(announcement: Announcement, now: number): void {
    const id = idOf(announcement)
    const item = this.#items.get(id)
    if (item === undefined) {
      if (this.#items.size >= MAX_ANNOUNCEMENTS) {
        throw new RowanError('LIMIT_EXCEEDED', `${MAX_ANNOUNCEMENTS} announcements are kept up; not also ${id}`)
      }
      this.#items.set(id, { announcement, dueMs: now, isStale: false, failures: 0, thin: 0 })
    } else if (item.announcement.complete !== announcement.complete) {
      item.announcement = announcement
      hasten(item, now)
    }
  }
}

function hasten(item: Item, now: number): void {
  if (item.dueMs === undefined) item.isStale = true
  else item.dueMs = Math.min(item.dueMs, now)
}

function idOf({ image, appliance }: Announcement): string {
  return appliance === undefined ? image : `${image} ${appliance}`
}
