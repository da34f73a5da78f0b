/**
 * The books of all connected peers: who could give an item, and who would give it first.
 *
 * Questions about several peers at once; what is asked of whom is the scheduler's to say.
 */

import { MAX_ASKED_ON_BEHALF, MAX_REMEMBERED_FAILURES } from './limits.ts'
import type { PeerEstimate } from './peer-estimate.ts'
import { PeerLedger } from './peer-ledger.ts'
import type { ItemKey, PeerKind } from './scheduler-types.ts'
import type { WantedItem } from './wanted-items.ts'

/** A peer that needs longer for a block than this does not keep one of last resort from being asked. */
const LAST_RESORT_PATIENCE_MS = 5_000

/** A connection can die without the peer's fault: the second time in a row counts. */
const FIRST_HOLD_MS = 1_000
const MAX_HOLD_MS = 8_000

export interface PeerView {
  peer: string
  images: number[]
  rttMs: number | undefined
  rateBytesPerSecond: number | undefined
  outstanding: number
  stalled: boolean
}

export class PeerLedgers {
  readonly #peers = new Map<string, PeerLedger>()
  /** How often in a row a peer was given up, or called anew, without having given anything. */
  readonly #failures = new Map<string, number>()

  get size(): number {
    return this.#peers.size
  }

  [Symbol.iterator](): MapIterator<PeerLedger> {
    return this.#peers.values()
  }

  get(id: string): PeerLedger | undefined {
    return this.#peers.get(id)
  }

  /** Undefined for a peer that is not connected. */
  estimate(id: string): PeerEstimate | undefined {
    return this.#peers.get(id)?.estimate
  }

  /** Whoever comes back again and again, and gives nothing, is asked for nothing for a while, each time for longer. */
  add(id: string, rttMs: number, nowMs: number, kind?: PeerKind): void {
    const failures = this.#failures.get(id) ?? 0
    const peer = new PeerLedger(id, rttMs, nowMs, { ...kind, isDoubtful: failures > 0 })
    if (failures > 1) peer.holdUntilMs = nowMs + Math.min(MAX_HOLD_MS, FIRST_HOLD_MS * 2 ** (failures - 2))
    this.#peers.set(id, peer)
  }

  /** It gave something. */
  delivered(id: string): void {
    this.#failures.delete(id)
  }

  /** @returns its book, if it was connected */
  remove(id: string): PeerLedger | undefined {
    const peer = this.#peers.get(id)
    this.#peers.delete(id)
    if (peer?.stalled || peer?.suspected) this.#noteFailure(id)
    return peer
  }

  #noteFailure(id: string): void {
    const failures = (this.#failures.get(id) ?? 0) + 1
    this.#failures.delete(id)
    this.#failures.set(id, failures)
    const [oldest] = this.#failures.keys()
    if (this.#failures.size > MAX_REMEMBERED_FAILURES && oldest !== undefined) this.#failures.delete(oldest)
  }

  view(): PeerView[] {
    return [...this.#peers.values()].map(peer => ({
      peer: peer.id,
      images: peer.images,
      rttMs: peer.estimate.smoothedRttMs,
      rateBytesPerSecond: peer.estimate.rateBytesPerSecond,
      outstanding: peer.owes.size,
      stalled: peer.stalled
    }))
  }

  /** Whether a neighbour can be asked to fetch one more block. */
  get anyHelper(): boolean {
    for (const { helper } of this.#peers.values())
      if (helper.isForAny && helper.asked < MAX_ASKED_ON_BEHALF) return true
    return false
  }

  /** Whether somebody who owes it may be expected to give it. */
  isUnderWay(item: WantedItem): boolean {
    for (const id of item.askedOf) if (this.#peers.get(id)?.isReliableFor(item.key, item.rank)) return true
    return false
  }

  isOffered(key: ItemKey): boolean {
    for (const peer of this.#peers.values()) if (peer.offers(key)) return true
    return false
  }

  /** Of these peers, the one that would give it first; none that owes it already. */
  earliest(item: WantedItem, peers: Iterable<PeerLedger>, nowMs: number): PeerLedger | undefined {
    let best: PeerLedger | undefined
    let bestMs = Number.POSITIVE_INFINITY
    for (const peer of peers) {
      if (item.askedOf.has(peer.id) || !peer.offers(item.key)) continue
      const arrivalMs = peer.arrivalMs(item.rank, nowMs)
      if (arrivalMs >= bestMs) continue
      best = peer
      bestMs = arrivalMs
    }
    return best
  }

  /** Whether a peer that is not of last resort will give this before long, be it that it has no room now. */
  isServedWell(item: WantedItem, nowMs: number): boolean {
    for (const peer of this.#peers.values()) {
      if (peer.lastResort || peer.stalled || peer.suspected || !peer.offers(item.key)) continue
      if (peer.arrivalMs(item.rank, nowMs) - nowMs <= LAST_RESORT_PATIENCE_MS) return true
    }
    return false
  }
}
