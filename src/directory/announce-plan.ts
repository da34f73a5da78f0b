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
  /** By image, then by appliance; '' for the image itself. */
  readonly #items = new Map<string, Map<string, Item>>()
  #size = 0

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
    // Also under the appliances named earlier.
    for (const item of this.#items.get(image)?.values() ?? []) this.#addOne({ ...item.announcement, complete }, now)
  }

  /** Whether this image is kept announced. */
  has(image: string): boolean {
    return this.#items.has(image)
  }

  /** No longer. Returns under what it was announced. */
  remove(image: string): Announcement[] {
    const removed = [...(this.#items.get(image)?.values() ?? [])]
    this.#items.delete(image)
    this.#size -= removed.length
    return removed.map(item => item.announcement)
  }

  /** How an image is announced now. */
  get(image: string): { complete: boolean } | undefined {
    return this.#items.get(image)?.get('')?.announcement
  }

  /** Everything again, now: this peer's addresses have changed. */
  renewAll(now: number): void {
    for (const item of this.#all()) hasten(item, now)
  }

  /** Up to `count` that are due, the longest due first; each is under way until `done` is told. */
  due(now: number, count: number): Announcement[] {
    const due = [...this.#all()].filter(item => item.dueMs !== undefined && item.dueMs <= now)
    const chosen = due.toSorted((a, b) => a.dueMs! - b.dueMs!).slice(0, count)
    for (const item of chosen) item.dueMs = undefined
    return chosen.map(item => item.announcement)
  }

  /** What came of one that was due: how many holders were asked, and how many keep it. */
  done(announcement: Announcement, outcome: { asked: number; kept: number }, now: number): void {
    const item = this.#items.get(announcement.image)?.get(announcement.appliance ?? '')
    if (item === undefined || item.dueMs !== undefined) return
    item.failures = outcome.kept === 0 ? item.failures + 1 : 0
    item.thin = outcome.kept > 0 && outcome.asked < FULL_SET_OF_HOLDERS ? item.thin + 1 : 0
    item.dueMs = item.isStale ? now : now + jittered(this.#delayMs(item), RENEWAL_JITTER, this.#random)
    item.isStale = false
  }

  /** When something is due next; undefined when nothing is planned. */
  nextMs(): number | undefined {
    let next: number | undefined
    for (const { dueMs } of this.#all()) {
      if (dueMs !== undefined && dueMs < (next ?? Infinity)) next = dueMs
    }
    return next
  }

  get size(): number {
    return this.#size
  }

  #delayMs(item: Item): number {
    const renewalMs = this.#ttlMs / 3
    if (item.failures > 0) return Math.min(renewalMs, ANNOUNCE_RETRY_MS * 2 ** (item.failures - 1))
    if (item.thin > 0) return Math.min(renewalMs, THIN_RETRY_MS * 2 ** (item.thin - 1))
    return renewalMs
  }

  *#all(): Iterable<Item> {
    for (const items of this.#items.values()) yield* items.values()
  }

  #addOne(announcement: Announcement, now: number): void {
    const { image, appliance = '', complete } = announcement
    const item = this.#items.get(image)?.get(appliance)
    if (item === undefined) {
      if (this.#size >= MAX_ANNOUNCEMENTS) {
        throw new RowanError('LIMIT_EXCEEDED', `${MAX_ANNOUNCEMENTS} announcements are kept up; not also ${image}`)
      }
      const items = this.#items.get(image) ?? new Map<string, Item>()
      items.set(appliance, { announcement, dueMs: now, isStale: false, failures: 0, thin: 0 })
      this.#items.set(image, items)
      this.#size++
    } else if (item.announcement.complete !== complete) {
      item.announcement = announcement
      hasten(item, now)
    }
  }
}

function hasten(item: Item, now: number): void {
  if (item.dueMs === undefined) item.isStale = true
  else item.dueMs = Math.min(item.dueMs, now)
}
