/**
 * Neighbours first: which way a block comes where peers are near that use the same image.
 *
 * A home, a school or an office has one line to the outside and a fast network inside. What crosses the line once is enough for all
 * who are near each other:
 *
 * - What a neighbour has is asked of neighbours, not of whoever is far; a guest's block of whoever gives it first.
 * - What no neighbour has yet has a *home* among those who use the image, this peer included: the one with the highest weight, a hash of
 *   peer and block (rendezvous hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). The home
 *   asks who is far; the others ask the home, which fetches it on their behalf if it does not anyway. So even peers in lockstep, who
 *   want the same block before either could hear that the other has it, fetch it once.
 *
 * Weights need no agreement on who is there: a peer asks another only for what that one weighs more for, so no two can wait for each
 * other, and who knows fewer neighbours only asks far away for more. What a home costs at worst is in helper-book.ts.
 *
 * Near is always meant against the peer that would be asked instead. Who answered on this peer's own network (mDNS) is near until blocks have
 * told otherwise: a neighbour on a bad wireless link is not nearer than a good replica. Anybody else must be measured to be very near.
 */

import type { Due } from './helper-book.ts'
import type { Rank } from './messages.ts'
import type { PeerLedger } from './peer-ledger.ts'
import { DEMAND } from './peer-ledger.ts'
import type { PeerLedgers } from './peer-ledgers.ts'
import { seedOf, weightOf } from './peer-weight.ts'
import { itemOf } from './scheduler-types.ts'
import type { WantedItem } from './wanted-items.ts'

/** Below this round trip a peer is no reason to ask somebody nearer. */
const FAR_RTT_MS = 3
/** Who answered on this peer's own network is near until so many blocks have told otherwise: a greeting takes long on a busy host. */
const TELLING_ANSWERS = 4
const OWN_NETWORK_RTT_MS = 50
const OWN_NETWORK_FACTOR = 2
/** Anybody else, and only where blocks have told that the other is far: among replicas of one host a busy one seems to be. */
export const NEAR_RTT_MS = 5
const TOLD_FAR_RTT_MS = 20
const NEAR_FACTOR = 4
/** What is assumed of who answered on this peer's own network. */
const OWN_NETWORK_ASSUMED_MS = 1
/** A neighbour that needs longer than this for a block it has is no reason to leave a far replica idle. */
const NEAR_PATIENCE_MS = 1_000
const PROMPT_RANK: Rank = 1
/** A guest's block that is late by this, at least, is asked of a second peer. */
const LATE_FLOOR_MS = 30

/** While no rate was measured: a guest's block needs no longer than two round trips to who is far, and this. */
const DEMAND_AHEAD_MS = 100

/** Where an item is to be asked for. */
export type Way =
  /** Of these, whoever gives it first. */
  | { of: Iterable<PeerLedger> }
  /** Of its home, on behalf; `far` is who would be asked instead. */
  | { home: PeerLedger; far: PeerLedger }
  /** Of nobody now: it will come sooner from a neighbour that has no room at the moment. */
  | 'later'

/** A peer that may be asked. */
interface Well {
  peer: PeerLedger
  rttMs: number
  /** It gives what it has before long. */
  isPrompt: boolean
}

export class Neighbours {
  readonly #seed: number
  readonly #peers: PeerLedgers
  #well: Well[] = []

  /** @param self - this peer's id */
  constructor(self: string, peers: PeerLedgers) {
    this.#seed = seedOf(self)
    this.#peers = peers
  }

  /** Before the ways of many items are asked for: whether there are neighbours to think of. */
  look(nowMs: number): boolean {
    this.#well = []
    let isAnyFar = false
    let isAnyNear = false
    for (const peer of this.#peers) {
      if (peer.lastResort || peer.stalled || peer.suspected || peer.holdUntilMs > nowMs) continue
      const rttMs = rttOf(peer)
      // A first guess of a rate is no reason to leave a neighbour aside: few requests at a time look slow.
      const isGuess = !peer.estimate.isMeasured
      const isPrompt = isGuess || peer.arrivalMs(PROMPT_RANK, nowMs) - nowMs <= NEAR_PATIENCE_MS
      this.#well.push({ peer, rttMs, isPrompt })
      isAnyFar ||= rttMs >= FAR_RTT_MS
      isAnyNear ||= peer.onOwnNetwork || rttMs <= NEAR_RTT_MS
    }
    return isAnyFar && isAnyNear
  }

  /**
   * As things were at the last `look`.
   *
   * @param withRoom - peers that can take an item of this rank now
   */
  wayOf(item: WantedItem, withRoom: Set<PeerLedger>, nowMs: number): Way {
    const direct = { of: withRoom }
    let far: Well | undefined
    let farthest: Well | undefined
    let near: Well | undefined
    for (const well of this.#well) {
      if (item.askedOf.has(well.peer.id) || !well.peer.offers(item.key)) continue
      if (far === undefined || well.rttMs < far.rttMs) far = well
      if (farthest === undefined || well.rttMs > farthest.rttMs) farthest = well
      if (well.isPrompt && (near === undefined || well.rttMs < near.rttMs)) near = well
    }
    if (far === undefined || farthest === undefined) return direct
    if (item.rank !== DEMAND && near !== undefined && isNearer(near.peer, farthest.peer)) {
      return this.#ofThoseAsNearAs(near.peer, item, withRoom)
    }
    if (item.onlyDirect) return direct
    const home = this.#homeOf(item, far.peer, nowMs)
    if (home === undefined) return direct
    if (home.helper.hasRoom(item.rank, far.peer.estimate.rateBytesPerSecond, nowMs)) return { home, far: far.peer }
    return item.rank === DEMAND ? direct : 'later'
  }

  /**
   * When a home should have brought an item, judged by what `far` would need.
   *
   * @param before - as it was asked for at a lower rank: this one is not due later than that
   */
  due(home: PeerLedger, far: PeerLedger, rank: Rank, nowMs: number, before?: Due): Due {
    const besideMs = rank === DEMAND ? 0 : far.estimate.arrivalMs(nowMs, home.helper.askedBytes)
    const farMs = Math.max(far.arrivalMs(rank, nowMs), besideMs) - nowMs
    // What is ahead of a guest's block was paced; a first guess of the rate may say otherwise.
    const isGuess = rank === DEMAND && !far.estimate.isMeasured
    const mostMs = isGuess ? 2 * far.estimate.baseRttMs + DEMAND_AHEAD_MS : Number.POSITIVE_INFINITY
    const expectedMs = nowMs + home.estimate.baseRttMs + Math.min(farMs, mostMs)
    const marginMs = Math.max(LATE_FLOOR_MS, 4 * far.estimate.deviationMs)
    const bytes = before?.bytes ?? far.estimate.blockBytes
    const due = home.helper.due(rank, bytes, { nowMs, expectedMs, marginMs })
    return before === undefined ? due : { ...due, overdueMs: Math.min(due.overdueMs, before.overdueMs) }
  }

  /** Who would be asked for this item if nobody were near. */
  farOf(item: WantedItem): PeerLedger | undefined {
    let far: PeerLedger | undefined
    for (const peer of this.#peers) {
      if (peer.lastResort || peer.stalled || peer.suspected || !peer.offers(item.key)) continue
      if (far === undefined || rttOf(peer) < rttOf(far)) far = peer
    }
    return far
  }

  #ofThoseAsNearAs(near: PeerLedger, item: WantedItem, withRoom: Set<PeerLedger>): Way {
    const free: PeerLedger[] = []
    for (const peer of withRoom) {
      if (!item.askedOf.has(peer.id) && peer.offers(item.key) && !isNearer(near, peer)) free.push(peer)
    }
    return free.length > 0 ? { of: free } : 'later'
  }

  /** The neighbour that is to fetch this from who is far; undefined where that is this peer itself. */
  #homeOf(item: WantedItem, far: PeerLedger, nowMs: number): PeerLedger | undefined {
    const place = itemOf(item.key)
    if (place.kind !== 'block') return undefined
    let home: PeerLedger | undefined
    let most = weightOf(this.#seed, place.block)
    for (const { peer } of this.#well) {
      if (!peer.helper.isFor(place.image) || peer.helper.rests(nowMs)) continue
      if (item.askedOf.has(peer.id) || !isNearer(peer, far)) continue
      const weight = weightOf(peer.seed, place.block)
      if (weight <= most) continue
      home = peer
      most = weight
    }
    return home
  }
}

/** Whether `far` is far, seen from here, and `peer` much nearer. */
function isNearer(peer: PeerLedger, far: PeerLedger): boolean {
  const rttMs = rttOf(peer)
  const farMs = rttOf(far)
  if (farMs < FAR_RTT_MS) return false
  if (peer.onOwnNetwork) return rttMs <= OWN_NETWORK_RTT_MS && rttMs * OWN_NETWORK_FACTOR <= farMs
  const isFarTold = far.estimate.answers >= TELLING_ANSWERS && farMs >= TOLD_FAR_RTT_MS
  return isFarTold && rttMs <= NEAR_RTT_MS && rttMs * NEAR_FACTOR <= farMs
}

function rttOf({ onOwnNetwork, estimate }: PeerLedger): number {
  const isTold = !onOwnNetwork || estimate.answers >= TELLING_ANSWERS
  return isTold ? estimate.baseRttMs : Math.min(OWN_NETWORK_ASSUMED_MS, estimate.baseRttMs)
}
