/**
 * When what this peer shares must be said again: a pure policy, without timers or network.
 *
 * A lease is renewed at a third of its TTL, give or take a tenth; one that holds for long, every MAX_LEASE_RENEWAL_MS,
 * because whoever holds it may change or leave. What nobody took is tried again soon, with growing patience; so is what
 * found too few holders. What is not shared any more is given back, several times if somebody did not hear of it: a single
 * holder that still knows a lease keeps its version for as long as that would have held. At which holders a lease is
 * renewed, and when it may rest, is the lease's own affair (sharer-lease.ts).
 */

import type { Random } from '../environment.ts'
import { RowanError } from '../errors.ts'
import {
  ANNOUNCE_RETRY_MS,
  FULL_SET_OF_HOLDERS,
  MAX_LEASE_RENEWAL_MS,
  MAX_SHARED_RELEASES,
  RENEWAL_JITTER,
  REST_RENEWALS,
  THIN_RETRY_MS
} from './limits.ts'
import { jittered } from './sampling.ts'
import { SharerLease } from './sharer-lease.ts'

/** How this peer uses a release. */
export interface Share {
  /** `PUBLISHER/NAME@VERSION`. */
  release: string
  /** Its image. */
  image: string
  /** A machine of it runs. */
  running: boolean
  /** A machine of it has layers of its own, running or not. */
  keep: boolean
}

export interface LeaseTask {
  kind: 'renew' | 'probe' | 'give-back'
  share: Share
  lease: SharerLease
  /** For how long the lease rests where it may. */
  restMs: number
}

export interface LeaseOutcome {
  /** Holders, those among them where the lease rests. */
  asked: number
  /** Those that took it, or where it rests. */
  kept: number
  /** Of those that a lease was to be given back to, holders and replicas, how many did not take it. */
  missed?: number
  /** Nothing is left to be done: the lease has expired. */
  over?: boolean
}

interface Item {
  share: Share
  lease: SharerLease
  /** Undefined while it is under way. */
  dueMs: number | undefined
  /** Changed while it was under way: due again as soon as that is over. */
  isStale: boolean
  failures: number
  /** In a row, with fewer holders than a full set. */
  thin: number
  /** How often it was given back and somebody missed it. */
  missedBacks: number
}

/** Attempts to give back a lease in a network that seems too small. */
const THIN_GIVE_BACKS = 4
/** Attempts to give back a lease to everybody; with growing patience they take a day. */
const MAX_GIVE_BACKS = 14

export class LeasePlan {
  readonly #random: Random
  readonly #ttls: { runningMs: number; keepMs: number }
  readonly #items = new Map<string, Item>()

  constructor(components: { random: Random }, settings: { runningTtlMs: number; keepTtlMs: number }) {
    this.#random = components.random
    this.#ttls = { runningMs: settings.runningTtlMs, keepMs: settings.keepTtlMs }
  }

  /**
   * All that this peer uses, in place of what it used before. What is new or has changed is due at once.
   *
   * @param now - monotonic milliseconds, as in all steps
   * @throws LIMIT_EXCEEDED with more than MAX_SHARED_RELEASES; nothing is changed then
   */
  share(shares: readonly Share[], now: number): void {
    const wanted = new Map(shares.filter(isShared).map(share => [share.release, share]))
    if (wanted.size > MAX_SHARED_RELEASES) {
      throw new RowanError(
        'LIMIT_EXCEEDED',
        `${wanted.size} releases in use; leases are kept up for ${MAX_SHARED_RELEASES}`
      )
    }
    for (const share of wanted.values()) this.#set(share, now)
    for (const { share } of this.#items.values()) {
      if (!wanted.has(share.release)) this.#set({ ...share, running: false, keep: false }, now)
    }
  }

  /** A lease that is out from before a restart. Unless it is shared again, it is given back. */
  remember(release: string, image: string, now: number): void {
    if (!this.#items.has(release)) this.#set({ release, image, running: false, keep: false }, now)
  }

  /** Up to `count` that are due, the longest due first; each is under way until `done` is told. */
  due(now: number, count: number): LeaseTask[] {
    const due = [...this.#items.values()].filter(item => item.dueMs !== undefined && item.dueMs <= now)
    const chosen = due.toSorted((a, b) => a.dueMs! - b.dueMs!).slice(0, count)
    return chosen.map(item => {
      item.dueMs = undefined
      const { share, lease } = item
      const kind = !isShared(share) ? 'give-back' : lease.isResting ? 'probe' : 'renew'
      return { kind, share, lease, restMs: REST_RENEWALS * this.#renewalMs(share) }
    })
  }

  done(task: LeaseTask, outcome: LeaseOutcome, now: number): void {
    const item = this.#items.get(task.share.release)
    if (item === undefined || item.dueMs !== undefined) return
    item.failures = outcome.kept === 0 ? item.failures + 1 : 0
    item.thin = outcome.kept > 0 && outcome.asked < FULL_SET_OF_HOLDERS ? item.thin + 1 : 0
    item.missedBacks = task.kind === 'give-back' && (outcome.missed ?? 0) > 0 ? item.missedBacks + 1 : 0
    if (!item.isStale && !isShared(item.share) && (outcome.over || isGivenBack(item))) {
      this.#items.delete(task.share.release)
      return
    }
    item.dueMs = item.isStale || (task.kind === 'probe' && !item.lease.isResting) ? now : now + this.#delayMs(item)
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

  #set(share: Share, now: number): void {
    const item = this.#items.get(share.release)
    if (item === undefined) {
      const fresh = { dueMs: now, isStale: false, failures: 0, thin: 0, missedBacks: 0 }
      this.#items.set(share.release, { share, lease: new SharerLease(), ...fresh })
      return
    }
    const { running, keep } = item.share
    item.share = share
    if (running === share.running && keep === share.keep) return
    // What is said is another thing now, so all are told, also those where it rested.
    item.lease.probed(false, now)
    item.failures = 0
    item.thin = 0
    item.missedBacks = 0
    if (item.dueMs === undefined) item.isStale = true
    else item.dueMs = now
  }

  #renewalMs({ running }: Share): number {
    return renewalMs(running ? this.#ttls.runningMs : this.#ttls.keepMs)
  }

  #delayMs(item: Item): number {
    const normal = this.#renewalMs(item.share)
    if (item.failures > 0) return this.#around(Math.min(normal, ANNOUNCE_RETRY_MS * 2 ** (item.failures - 1)))
    if (item.lease.isResting) return restDelayMs(normal, this.#random)
    const again = Math.max(item.thin, item.missedBacks)
    if (again > 0) return this.#around(Math.min(normal, THIN_RETRY_MS * 2 ** (again - 1)))
    return this.#around(normal)
  }

  #around(ms: number): number {
    return jittered(ms, RENEWAL_JITTER, this.#random)
  }
}

/** How long after a renewal the next one follows, give or take RENEWAL_JITTER. */
export function renewalMs(ttlMs: number): number {
  return Math.min(ttlMs / 3, MAX_LEASE_RENEWAL_MS)
}

/** How long a lease rests before a holder is asked: up to one TTL, so that those who rest do not ask all at once. */
export function restDelayMs(renewal: number, random: Random): number {
  return renewal * REST_RENEWALS * (1 - 2 * RENEWAL_JITTER * random.unit())
}

function isShared({ running, keep }: Share): boolean {
  return running || keep
}

function isGivenBack({ failures, thin, missedBacks }: Item): boolean {
  if (failures > 0 || (thin > 0 && thin < THIN_GIVE_BACKS)) return false
  return missedBacks === 0 || missedBacks >= MAX_GIVE_BACKS
}
