/**
 * The books of all connected peers: who could give an item, and who would give it first.
 *
 * Questions about several peers at once; what is asked of whom is the scheduler's to say.
 */

import type { PeerEstimate } from './peer-estimate.ts'
import { DEMAND, PeerLedger } from './peer-ledger.ts'
import type { ItemKey } from './scheduler-types.ts'
import type { WantedItem } from './wanted-items.ts'

/** A peer that needs longer for a block than this does not keep one of last resort from being asked. */
const LAST_RESORT_PATIENCE_MS = 5_000

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

  add(id: string, rttMs: number, nowMs: number, lastResort?: boolean): void {
    this.#peers.set(id, new PeerLedger(id, rttMs, nowMs, lastResort))
  }

  /** @returns its book, if it was connected */
  remove(id: string): PeerLedger | undefined {
    const peer = this.#peers.get(id)
    this.#peers.delete(id)
    return peer
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

  /** Whether somebody who owes it may be expected to give it. */
  isUnderWay(item: WantedItem): boolean {
    for (const id of item.askedOf) {
      const peer = this.#peers.get(id)
      if (peer !== undefined && !peer.stalled && !(peer.suspected && item.rank === DEMAND)) return true
    }
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
