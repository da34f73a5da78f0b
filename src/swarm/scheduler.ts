/**
 * Who is asked for what, and when: the swarm's policy.
 *
 * A synchronous step machine. Events come in with `apply`, then `decide` says what to do about all of them; nothing here waits,
 * reads a clock or rolls dice, so that the simulator runs this very code and equal events give equal actions.
 *
 * The life of an item: *waiting* (in the line of its rank, oldest first) → *asked* (a live peer owes it) → done. It is *parked*
 * while no peer has it. Rules:
 *
 * - Ranks are strict: as long as a peer could take a waiting item of a higher rank, it gets none of a lower one.
 * - Among the peers that have it and have room, the one with the earliest expected arrival is asked.
 * - A peer owes exactly one answer for each request. Until it came (or the peer left) that peer is not asked for the item again,
 *   even if the item was cancelled and is wanted anew.
 * - A peer that is silent for too long while it owes something is stalled: what it owes goes back into the line for others. It gets
 *   nothing new until something comes from it, and is dropped when that takes too long (peer-ledger.ts has the times). Bytes that
 *   answer nothing are a sign of life for some seconds only.
 * - Where a guest waits, that is too long: then a peer is suspected much sooner. The demand that it owes goes to others at once, and it
 *   is called anew, because a connection can die without a word while its peer lives.
 * - A late demand block is asked of a second peer too, within a budget of duplicate bytes.
 * - A peer of last resort (a web seed) is asked only for what no other peer has that does well: one that is silent, or would take
 *   seconds, does not.
 * - What is wanted stays wanted until it is done or cancelled.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { MAX_REMEMBERED_LIARS } from './limits.ts'
import type { MissingReason, Rank } from './messages.ts'
import { Neighbours } from './neighbours.ts'
import type { PeerEstimate } from './peer-estimate.ts'
import { DEMAND, type Debt, type PeerLedger } from './peer-ledger.ts'
import { PeerLedgers, type PeerView } from './peer-ledgers.ts'
import type { ItemKey, PeerKind, SchedulerAction, SchedulerEvent } from './scheduler-types.ts'
import { Silence } from './silence.ts'
import { type WantedItem, WantedItems } from './wanted-items.ts'

const RANKS: Rank[] = [0, 1, 2, 3]
/** Demand and read-ahead. */
const QUIET_RANKS: Rank[] = [0, 1]
/** How long a peer that refused a request for want of room gets no more. */
const REFUSED_HOLD_MS = 500
/** Replicas of what is parked are looked for this often, and peers that could not give it are asked again this often. */
const REMIND_MS = 1_000
const FORGIVE_MS = 30_000
/** Duplicates may cost 5 % of what came, and this much on top. */
const HEDGE_SHARE = 0.05
const HEDGE_ALLOWANCE_BYTES = 16 * BLOCK_SIZE_BYTES

export class Scheduler {
  readonly #items = new WantedItems()
  readonly #peers = new PeerLedgers()
  readonly #silence = new Silence(this.#items, this.#peers)
  readonly #liars: Set<string>
  #ranks = RANKS
  #actions: SchedulerAction[] = []
  #answeredBytes = 0
  #hedgedBytes = 0
  #remindMs = 0
  #forgiveMs = 0

  readonly #neighbours: Neighbours

  /** @param liars - known from before; `self`: this peer's id */
  constructor(liars: Iterable<string> = [], self = '') {
    this.#liars = new Set(liars)
    this.#neighbours = new Neighbours(self, this.#peers)
  }

  /** How many items are wanted and not here. */
  get wanted(): number {
    return this.#items.size
  }

  isLiar(peer: string): boolean {
    return this.#liars.has(peer)
  }

  /** Undefined for a peer that is not connected. */
  estimate(peer: string): PeerEstimate | undefined {
    return this.#peers.estimate(peer)
  }

  /** Whether a guest waits for this peer, which is silent. */
  isSuspected(peer: string): boolean {
    return this.#peers.get(peer)?.suspected ?? false
  }

  view(): PeerView[] {
    return this.#peers.view()
  }

  /** Both halves of a step at once. */
  step(event: SchedulerEvent, nowMs: number): SchedulerAction[] {
    this.apply(event, nowMs)
    return this.decide(nowMs)
  }

  /** Takes note of an event; what follows from it comes with the next `decide`. */
  apply(event: SchedulerEvent, nowMs: number): void {
    switch (event.type) {
      case 'want':
        this.#want(event.key, event.rank, nowMs, event.relied)
        break
      case 'cancel':
      case 'done':
        this.#remove(event.key)
        break
      case 'joined':
        this.#join(event.peer, event.rttMs, nowMs, event.kind)
        break
      case 'left':
        this.#leave(event.peer)
        break
      case 'round-trip':
        this.#peers.get(event.peer)?.estimate.notePossible(event.rttMs, nowMs)
        break
      case 'has':
        this.#peers.get(event.peer)?.learn(event.image, event.complete, event.pages)
        this.#unpark(event.image)
        break
      case 'helps':
        this.#peers.get(event.peer)?.helper.helps(event.image, event.helps)
        break
      case 'answered':
        this.#answered(event.peer, event.key, event.bytes, nowMs)
        break
      case 'unwanted':
        this.#peers.get(event.peer)?.credit.received(event.bytes)
        break
      case 'missing':
        this.#missing(event.peer, event.key, event.reason, nowMs)
        break
      case 'lied':
        this.#lied(event.peer)
        break
      case 'progress':
        this.#chattered(this.#peers.get(event.peer), nowMs)
        break
      case 'held-back':
        this.#heard(this.#peers.get(event.peer), nowMs)
        break
      case 'quiet':
        this.#ranks = event.quiet ? QUIET_RANKS : RANKS
        break
      case 'time':
        if (event.lateMs > 0) for (const peer of this.#peers) peer.excuse(nowMs)
    }
  }

  /** What to do about all that was applied. */
  decide(nowMs: number): SchedulerAction[] {
    for (const action of this.#silence.notice(nowMs)) {
      if (action.type === 'drop') this.#leave(action.peer)
      this.#actions.push(action)
    }
    this.#forgive(nowMs)
    this.#grant(nowMs)
    for (const rank of this.#ranks) this.#ask(rank, nowMs)
    this.#hedge(nowMs)
    this.#remind(nowMs)
    const actions = this.#actions
    this.#actions = []
    return actions
  }

  /** When `decide` must be called again if nothing happens before; undefined when nothing is pending. */
  nextMs(nowMs: number): number | undefined {
    let next = this.#items.anyParked ? this.#remindMs : Number.POSITIVE_INFINITY
    for (const peer of this.#peers) {
      if (peer.holdUntilMs > nowMs) next = Math.min(next, peer.holdUntilMs)
      next = Math.min(next, peer.stallAtMs() ?? next, peer.suspectAtMs() ?? next, peer.redialAtMs() ?? next)
      if (this.#peers.size < 2 || !(peer.owesDemand || peer.helper.asked > 0)) continue
      for (const [key, debt] of peer.owes) {
        if (debt.behalf !== undefined && !debt.overdue) next = Math.min(next, debt.behalf.overdueMs)
        const lateMs = peer.lateAtMs(debt)
        if (debt.rank !== DEMAND || lateMs <= nowMs || this.#items.get(key)?.askedOf.size !== 1) continue
        next = Math.min(next, lateMs)
      }
    }
    return next === Number.POSITIVE_INFINITY ? undefined : Math.max(nowMs, next)
  }

  #want(key: ItemKey, rank: Rank, nowMs: number, relied = false): void {
    const known = this.#items.get(key)
    const item = known ?? this.#items.add(key, rank)
    if (relied) item.onlyDirect = true
    if (known !== undefined) {
      if (rank >= known.rank) return
      this.#items.raise(known, rank)
      // What is in time for a prefetch may be with somebody who is too silent for a guest.
      if (known.place === 'asked' && !this.#peers.isUnderWay(known)) this.#items.queue(known)
    }
    // A peer may still owe the answer to an earlier, cancelled request for it: that answer will do.
    for (const peer of this.#peers) {
      const debt = peer.owes.get(key)
      if (debt === undefined) continue
      item.askedOf.add(peer.id)
      if (rank < debt.rank) this.#raiseDebt(peer, item, debt, rank, nowMs)
    }
  }

  #raiseDebt(peer: PeerLedger, item: WantedItem, debt: Debt, rank: Rank, nowMs: number): void {
    const { key } = item
    peer.raise(debt, rank, nowMs)
    const far = debt.behalf === undefined ? undefined : this.#neighbours.farOf(item)
    if (far !== undefined) debt.behalf = this.#neighbours.due(peer, far, rank, nowMs, debt.behalf)
    const last = this.#actions.at(-1)
    if (last?.type === 'raise' && last.peer === peer.id && last.rank === rank) last.keys.push(key)
    else this.#actions.push({ type: 'raise', peer: peer.id, rank, keys: [key] })
  }

  /** The item is done or not wanted any more. The peers that owe it still owe an answer. */
  #remove(key: ItemKey): void {
    const item = this.#items.get(key)
    if (item === undefined) return
    this.#items.remove(item)
    for (const id of item.askedOf) {
      const debt = this.#peers.get(id)?.owes.get(key)
      if (debt !== undefined) debt.calledOff = true
      this.#actions.push({ type: 'call-off', peer: id, keys: [key] })
    }
  }

  #join(id: string, rttMs: number, nowMs: number, kind?: PeerKind): void {
    if (this.#liars.has(id)) return
    this.#leave(id)
    this.#peers.add(id, rttMs, nowMs, kind)
  }

  #leave(id: string): void {
    const peer = this.#peers.remove(id)
    if (peer === undefined) return
    for (const key of peer.owes.keys()) this.#lose(key, id)
  }

  /** `peer` does not owe this any more, and did not give it. */
  #lose(key: ItemKey, peer: string): void {
    const item = this.#items.get(key)
    if (item === undefined) return
    item.askedOf.delete(peer)
    if (item.place === 'asked' && !this.#peers.isUnderWay(item)) this.#items.queue(item)
  }

  /** The caller checks the bytes, and says `done` or `lied` before the next `decide`; else it is asked for again. */
  #answered(id: string, key: ItemKey, bytes: number, nowMs: number): void {
    const peer = this.#peers.get(id)
    if (!peer?.answered(key, bytes, nowMs)) {
      // What comes unasked was announced, and is bounded: the index of a small image, on a slow line.
      this.#heard(peer, nowMs)
      return
    }
    this.#peers.delivered(id)
    this.#answeredBytes += bytes
    this.#heard(peer, nowMs)
    this.#lose(key, id)
  }

  #missing(id: string, key: ItemKey, reason: MissingReason, nowMs: number): void {
    const peer = this.#peers.get(id)
    const debt = peer?.settle(key)
    if (peer === undefined || debt === undefined) return
    this.#heard(peer, nowMs)
    const wasRefused = reason === 'refused' || (reason === 'cancelled' && !debt.calledOff)
    const item = this.#items.get(key)
    if (debt.behalf !== undefined) {
      if (wasRefused || reason === 'absent') peer.helper.disappointed(nowMs)
      else if (reason === 'zero' && item !== undefined) item.onlyDirect = true
    } else if (wasRefused) peer.holdUntilMs = nowMs + REFUSED_HOLD_MS
    else if (reason !== 'cancelled') peer.lacks(key)
    this.#lose(key, id)
  }

  #lied(id: string): void {
    this.#liars.add(id)
    if (this.#liars.size > MAX_REMEMBERED_LIARS) {
      const [oldest] = this.#liars
      if (oldest !== undefined) this.#liars.delete(oldest)
    }
    this.#leave(id)
    this.#actions.push({ type: 'drop', peer: id, why: 'lied' })
  }

  #chattered(peer: PeerLedger | undefined, nowMs: number): void {
    if (peer?.chattered(nowMs)) this.#silence.isOver(peer)
  }

  #heard(peer: PeerLedger | undefined, nowMs: number): void {
    if (peer === undefined) return
    peer.heard(nowMs)
    this.#silence.isOver(peer)
  }

  /** Before anything is asked for, so that a replica never has a request before the credit for it. */
  #grant(nowMs: number): void {
    for (const peer of this.#peers) {
      const bytes = peer.creditDue()
      if (bytes === 0) continue
      peer.credit.granted(bytes, nowMs)
      this.#actions.push({ type: 'credit', peer: peer.id, bytes })
    }
  }

  #ask(rank: Rank, nowMs: number): void {
    const line = this.#items.line(rank)
    if (line.size === 0) return
    const sends = new Map<PeerLedger, ItemKey[]>()
    const behalf = new Map<PeerLedger, ItemKey[]>()
    const free = [...this.#peers].filter(peer => peer.hasRoom(rank, nowMs))
    const withRoom = new Set(free.filter(({ lastResort }) => !lastResort))
    const reserve = new Set(free.filter(({ lastResort }) => lastResort))
    const anyNear = this.#neighbours.look(nowMs)
    for (const item of line.values()) {
      // Once every peer is full, the rest waits; but with no peers at all it is parked, so that somebody looks for some.
      if (withRoom.size + reserve.size === 0 && this.#peers.size > 0 && !(anyNear && this.#peers.anyHelper)) break
      const way = anyNear ? this.#neighbours.wayOf(item, withRoom, nowMs) : { of: withRoom }
      if (way === 'later') continue
      if ('home' in way) {
        const { home, far } = way
        home.askOnBehalf(item.key, rank, this.#neighbours.due(home, far, rank, nowMs))
        item.askedOf.add(home.id)
        this.#items.asked(item)
        note(behalf, home, item.key)
        continue
      }
      let best = this.#peers.earliest(item, way.of, nowMs)
      if (reserve.size > 0 && !this.#peers.isServedWell(item, nowMs)) {
        best = this.#peers.earliest(item, best === undefined ? reserve : [best, ...reserve], nowMs)
      }
      if (best === undefined) {
        if (!this.#peers.isOffered(item.key) && this.#items.park(item)) this.#remindMs = nowMs
        continue
      }
      this.#give(best, item, nowMs)
      if (!best.hasRoom(rank, nowMs)) {
        withRoom.delete(best)
        reserve.delete(best)
      }
      note(sends, best, item.key)
    }
    for (const [peer, keys] of sends) this.#actions.push({ type: 'send', peer: peer.id, rank, keys })
    for (const [peer, keys] of behalf) this.#actions.push({ type: 'send', peer: peer.id, rank, keys, onBehalf: true })
  }

  #give(peer: PeerLedger, item: WantedItem, nowMs: number): void {
    peer.ask(item.key, item.rank, nowMs)
    item.askedOf.add(peer.id)
    this.#items.asked(item)
  }

  #unpark(image: number): void {
    for (const item of this.#items.parkedOf(image)) if (this.#peers.isOffered(item.key)) this.#items.queue(item)
  }

  /** Demand that is later than expected goes to a second peer too. */
  #hedge(nowMs: number): void {
    if (this.#peers.size < 2) return
    for (const peer of this.#peers) {
      if (!peer.owesDemand) continue
      for (const [key, debt] of peer.owes) {
        if (debt.rank !== DEMAND || nowMs < peer.lateAtMs(debt)) continue
        const item = this.#items.get(key)
        if (item === undefined || item.askedOf.size !== 1) continue
        if (this.#hedgedBytes > HEDGE_ALLOWANCE_BYTES + HEDGE_SHARE * this.#answeredBytes) return
        const others = [...this.#peers].filter(other => !other.lastResort && other.hasRoom(DEMAND, nowMs))
        const second = this.#peers.earliest(item, others, nowMs)
        if (second === undefined) continue
        this.#hedgedBytes += second.estimate.blockBytes
        this.#give(second, item, nowMs)
        this.#actions.push({ type: 'send', peer: second.id, rank: DEMAND, keys: [key] })
      }
    }
  }

  /** Gives peers that lacked something another chance now and then, if somebody waits for it. */
  #forgive(nowMs: number): void {
    if (!this.#items.anyParked || nowMs < this.#forgiveMs) return
    this.#forgiveMs = nowMs + FORGIVE_MS
    for (const peer of this.#peers) peer.forgive()
    for (const { image } of this.#items.parkedImages()) this.#unpark(image)
  }

  /** Calls for replicas of what is parked. */
  #remind(nowMs: number): void {
    if (!this.#items.anyParked || nowMs < this.#remindMs) return
    this.#remindMs = nowMs + REMIND_MS
    for (const { image, rank } of this.#items.parkedImages()) this.#actions.push({ type: 'find-replicas', image, rank })
  }
}

function note(sends: Map<PeerLedger, ItemKey[]>, peer: PeerLedger, key: ItemKey): void {
  const keys = sends.get(peer)
  if (keys === undefined) sends.set(peer, [key])
  else keys.push(key)
}
