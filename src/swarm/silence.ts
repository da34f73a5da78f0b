/**
 * Peers that do not answer: what is noticed of them, and what becomes of what they owe.
 *
 * - *Stalled*: silent for too long while it owes what it has. All that it owes goes back into the line for others, and after more silence
 *   it is dropped.
 * - *Suspected*: silent while a guest waits. The demand that it owes goes to others, and it is called anew.
 * - *Overdue*: what a neighbour was asked to fetch, and does not bring, goes back into the line, and no more is asked of it for a while.
 * - *Outlived*: a block that a guest waits for, and that a peer keeps back while it answers others, goes to others in the end: whoever
 *   chooses what it answers could else keep a guest waiting for minutes.
 */

import type { Debt, PeerLedger } from './peer-ledger.ts'
import { DEMAND } from './peer-ledger.ts'
import type { PeerLedgers } from './peer-ledgers.ts'
import type { ItemKey, SchedulerAction } from './scheduler-types.ts'
import type { WantedItems } from './wanted-items.ts'

/** Old debts are looked for this often. */
const REVIEW_MS = 1_000

export class Silence {
  readonly #items: WantedItems
  readonly #peers: PeerLedgers
  #reviewMs = 0

  constructor(items: WantedItems, peers: PeerLedgers) {
    this.#items = items
    this.#peers = peers
  }

  /** @returns the peers that are to be called anew, and to be dropped */
  notice(nowMs: number): SchedulerAction[] {
    const actions: SchedulerAction[] = []
    for (const peer of this.#peers) {
      if (this.#isLost(peer, nowMs)) actions.push({ type: 'drop', peer: peer.id, why: 'stalled' })
      if (this.#isToBeCalled(peer, nowMs)) actions.push({ type: 'redial', peer: peer.id })
      if (peer.helper.asked > 0) this.#takeBack(peer, nowMs)
    }
    if (nowMs >= this.#reviewMs) this.#review(nowMs)
    return actions
  }

  /** It speaks again: what it owes and nobody else was asked for meanwhile is under way again. */
  isOver(peer: PeerLedger): void {
    if (!(peer.stalled || peer.suspected)) return
    peer.stalled = false
    peer.suspected = false
    for (const key of peer.owes.keys()) {
      const item = this.#items.get(key)
      if (item !== undefined && item.place !== 'asked' && this.#peers.isUnderWay(item)) this.#items.asked(item)
    }
  }

  #isLost(peer: PeerLedger, nowMs: number): boolean {
    const atMs = peer.stallAtMs()
    if (atMs === undefined || nowMs < atMs) return false
    if (peer.stalled) return true
    peer.stalled = true
    for (const key of peer.owes.keys()) this.#askOthers(key)
    return false
  }

  #isToBeCalled(peer: PeerLedger, nowMs: number): boolean {
    const atMs = peer.suspectAtMs()
    if (atMs !== undefined && nowMs >= atMs) {
      peer.suspected = true
      for (const [key, debt] of peer.owes) if (debt.rank === DEMAND) this.#askOthers(key)
    }
    const redialMs = peer.redialAtMs()
    if (redialMs === undefined || nowMs < redialMs) return false
    peer.noteRedial(nowMs)
    return true
  }

  #takeBack(peer: PeerLedger, nowMs: number): void {
    for (const [key, debt] of peer.owes) {
      if (debt.behalf === undefined || debt.overdue || nowMs < debt.behalf.overdueMs) continue
      this.#tookTooLong(key, debt)
      const hasGiven = peer.helper.gaveMs > debt.behalf.askedMs
      if (hasGiven && debt.rank === DEMAND) peer.helper.wasLate(nowMs)
      else peer.helper.disappointed(nowMs)
      // It may be gone: then the rest need not be waited for.
      if (hasGiven) continue
      for (const [other, owed] of peer.owes) if (owed.behalf !== undefined) this.#tookTooLong(other, owed)
      return
    }
  }

  /** What is owed for too long goes to others as well. */
  #review(nowMs: number): void {
    this.#reviewMs = nowMs + REVIEW_MS
    for (const peer of this.#peers) {
      if (!peer.owesDemand) continue
      for (const [key, debt] of peer.owes) {
        if (!debt.overdue && peer.isOutlived(debt, nowMs)) this.#tookTooLong(key, debt)
      }
    }
  }

  #tookTooLong(key: ItemKey, debt: Debt): void {
    debt.overdue = true
    this.#askOthers(key)
  }

  /** Back into the line, unless another peer is about to give it. */
  #askOthers(key: ItemKey): void {
    const item = this.#items.get(key)
    if (item?.place === 'asked' && !this.#peers.isUnderWay(item)) this.#items.queue(item)
  }
}
