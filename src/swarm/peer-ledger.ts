/**
 * The scheduler's book about one connected peer: what it has, what it owes, and whether more may be asked of it.
 *
 * A peer owes one answer for each request. What it owes counts against its window until the answer comes, whether somebody still
 * wants it or not, because the bytes are on their way all the same. Below demand, it is asked for more than that window: what it sends
 * is bounded by credit (credit.ts), and requests that wait there are no bytes on the line.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { Availability } from './availability.ts'
import { CreditGrants } from './credit.ts'
import { type Due, HelperBook } from './helper-book.ts'
import { MAX_REQUESTS_PER_REPLICA, REQUESTS_FOR_DEMAND } from './limits.ts'
import type { HavePage, Rank } from './messages.ts'
import { PeerEstimate, type SentMark } from './peer-estimate.ts'
import { seedOf } from './peer-weight.ts'
import { type ItemKey, itemOf, type PeerKind } from './scheduler-types.ts'

export const DEMAND: Rank = 0
const FILL: Rank = 3
/** Silence of a peer that owes something: longer than this, and longer than four time-outs, is a stall. */
const STALL_FLOOR_MS = 1000
const STALL_TIMEOUTS = 4
/** A guest waits for a peer that is silent for this much longer than its time-out: it is suspected. */
const SUSPECT_MS = 150
/** A suspected peer is called anew this often, and each time half as often, while it stays silent. */
const REDIAL_MS = 1_500
/** A stalled peer is dropped after this much silence. */
const STALL_DROP_MS = 10_000
/** Bytes are a sign of life for so long after an answer: a block on a line of 7 KB/s. Then whoever chatters, and gives nothing, is silent. */
const MAX_CHATTER_MS = 10_000
/** What a guest waits for goes back into the line after so long, whatever else a peer answers. */
const LONGEST_DEMAND_MS = 30_000
/** A demand block this much later than expected, at least, is late. */
const LATE_FLOOR_MS = 30
/**
 * A fill that has used up the window goes on when this share of it is free again: a few requests of many blocks instead of one
 * for each block that came.
 */
const REFILL_SHARE = 1 / 8
/** How far beyond the window blocks are asked for that no guest waits for, so that credit never lies idle. */
const WINDOWS_AHEAD = 2
/** What demand may have in flight beyond twice the window. */
const DEMAND_EXTRA_BYTES = 16 * BLOCK_SIZE_BYTES

export interface Debt {
  rank: Rank
  /** Since when a guest waits for it. */
  demandMs: number | undefined
  /** What it was asked for because it has it. */
  direct: { mark: SentMark; bytes: number; expectedMs: number } | undefined
  /** What it was asked to fetch. */
  behalf: Due | undefined
  /** It took too long: somebody else may be asked. */
  overdue: boolean
  /** It was told that nobody wants it any more. */
  calledOff: boolean
}

export class PeerLedger {
  readonly id: string
  readonly lastResort: boolean
  readonly onOwnNetwork: boolean
  /** Its number for weights (neighbours.ts). */
  readonly seed: number
  readonly estimate = new PeerEstimate()
  /** What it fetches on this peer's behalf. */
  readonly helper: HelperBook
  readonly owes = new Map<ItemKey, Debt>()
  readonly credit = new CreditGrants()
  stalled = false
  /** Silent while a guest waits: others are asked what demand it owes, and it gets nothing new. */
  suspected = false
  /** Nothing is asked of it before this time. */
  holdUntilMs = 0
  readonly #images = new Map<number, Availability>()
  /** Nodes that it did not have when asked. */
  readonly #lackingNodes = new Set<ItemKey>()
  #owedBytes = 0
  #owedDemand = 0
  /** The window was not used up since it had room for a fill. */
  #filling = true
  #heardMs: number
  /** When it last gave something that it was asked for. */
  #answeredMs: number
  /** Since when it owes demand without a break. */
  #demandMs = 0
  #redials = 0
  #redialMs = 0
  #excused = false

  constructor(id: string, rttMs: number, nowMs: number, kind: PeerKind = {}) {
    const { lastResort = false, onOwnNetwork = false, isDoubtful = false } = kind
    this.id = id
    this.lastResort = lastResort
    this.onOwnNetwork = onOwnNetwork
    this.seed = seedOf(id)
    this.helper = new HelperBook(isDoubtful)
    this.estimate.addRoundTrip(rttMs, nowMs)
    this.#heardMs = nowMs
    this.#answeredMs = nowMs
  }

  get images(): number[] {
    return [...this.#images.keys()]
  }

  get owesDemand(): boolean {
    return this.#owedDemand > 0 || this.helper.owesDemand
  }

  /** On their way, or asked for, because it has them. */
  get owedBytes(): number {
    return this.#owedBytes
  }

  /** Whether what it owes may be expected of it. */
  isReliableFor(key: ItemKey, rank: Rank): boolean {
    return !this.stalled && !(this.suspected && rank === DEMAND) && this.owes.get(key)?.overdue !== true
  }

  /** Whether it has the item, as far as it said. Whoever has an image has its index, until it says otherwise. */
  offers(key: ItemKey): boolean {
    const item = itemOf(key)
    const availability = this.#images.get(item.image)
    if (availability === undefined) return false
    return item.kind === 'block' ? availability.has(item.block) : !this.#lackingNodes.has(key)
  }

  learn(image: number, complete: boolean, pages: HavePage[]): void {
    let availability = this.#images.get(image)
    if (availability === undefined) {
      availability = new Availability()
      this.#images.set(image, availability)
    }
    availability.learn(complete, pages)
  }

  lacks(key: ItemKey): void {
    const item = itemOf(key)
    if (item.kind === 'node') this.#lackingNodes.add(key)
    else this.#images.get(item.image)?.lacks(item.block)
  }

  /** What it could not give may be asked of it again. */
  forgive(): void {
    this.#lackingNodes.clear()
    for (const availability of this.#images.values()) availability.forgive()
  }

  /** Demand may go a window further than the rest, so that what is less urgent never keeps it from being asked for. */
  hasRoom(rank: Rank, nowMs: number): boolean {
    if (this.stalled || this.suspected || this.holdUntilMs > nowMs) return false
    const { windowBytes, paced, blockBytes } = this.estimate
    const aheadBytes = this.#aheadBytes
    if (rank === DEMAND) {
      const limit = windowBytes + Math.max(windowBytes, aheadBytes) + DEMAND_EXTRA_BYTES
      return this.owes.size < MAX_REQUESTS_PER_REPLICA && this.#owedBytes + blockBytes <= limit
    }
    if (this.owes.size >= MAX_REQUESTS_PER_REPLICA - REQUESTS_FOR_DEMAND) return false
    const needed = rank === FILL && !this.#filling ? paced.bytes * REFILL_SHARE : 0
    return this.#owedBytes + Math.max(blockBytes, needed) <= aheadBytes
  }

  /** When a block asked for now would be here. Demand overtakes what waits for credit. */
  arrivalMs(rank: Rank, nowMs: number): number {
    const { paced, blockBytes } = this.estimate
    const sentBytes = paced.bytes + this.#owedDemand * blockBytes
    return this.estimate.arrivalMs(nowMs, rank === DEMAND ? Math.min(sentBytes, this.#owedBytes) : this.#owedBytes)
  }

  /** What it may send beyond what it may already. One of last resort knows no credit. */
  creditDue(): number {
    return this.lastResort ? 0 : this.credit.due(this.estimate.paced.bytes)
  }

  /** Asks for what it has. */
  ask(key: ItemKey, rank: Rank, nowMs: number): void {
    if (this.#owesDirectly === 0) {
      this.#heardMs = nowMs
      this.#answeredMs = nowMs
    }
    const bytes = this.estimate.blockBytes
    const expectedMs = this.arrivalMs(rank, nowMs)
    const mark = this.estimate.sent(nowMs, this.#owedBytes)
    this.owes.set(key, { ...newDebt(rank, nowMs), direct: { mark, bytes, expectedMs } })
    this.#owedBytes += bytes
    this.#filling = this.#owedBytes + bytes <= this.#aheadBytes
    if (this.lastResort && !this.#filling) this.estimate.paced.noteFull()
    if (rank === DEMAND) this.#owesMoreDemand(nowMs)
  }

  /** Asks it to fetch what it does not have. */
  askOnBehalf(key: ItemKey, rank: Rank, due: Due): void {
    this.owes.set(key, { ...newDebt(rank, due.askedMs), behalf: due })
    this.helper.ask(rank, due)
  }

  raise(debt: Debt, rank: Rank, nowMs: number): void {
    if (rank === DEMAND && debt.rank !== DEMAND) {
      debt.demandMs = nowMs
      if (debt.behalf === undefined) this.#owesMoreDemand(nowMs)
      else this.helper.raised()
    }
    debt.rank = rank
  }

  /** An answer of `bytes` came. @returns whether it owed one */
  answered(key: ItemKey, bytes: number, nowMs: number): boolean {
    // Nodes of the index are few, and go without credit.
    const grantedMs = itemOf(key).kind === 'block' ? this.credit.received(bytes) : undefined
    const debt = this.settle(key)
    if (debt === undefined) return false
    if (debt.behalf !== undefined) this.helper.gave(debt.rank, debt.behalf, nowMs)
    if (debt.direct === undefined) return true
    // What waited for credit, and for no guest, was not on its way.
    const { demandMs = Number.POSITIVE_INFINITY } = debt
    const { mark } = debt.direct
    const sentMs = Math.max(mark.sentMs, Math.min(grantedMs ?? mark.sentMs, demandMs))
    // Where requests are what there is too little of, a larger window would only show once the blocks are larger.
    if (sentMs > mark.sentMs) this.estimate.paced.noteFull()
    this.estimate.answered(mark, bytes, nowMs, sentMs)
    return true
  }

  /** It owes this no more; undefined if it did not. */
  settle(key: ItemKey): Debt | undefined {
    const debt = this.owes.get(key)
    if (debt === undefined) return undefined
    this.owes.delete(key)
    if (debt.behalf !== undefined) this.helper.settle(debt.rank, debt.behalf)
    if (debt.direct === undefined) return debt
    this.#owedBytes -= debt.direct.bytes
    if (debt.rank === DEMAND) this.#owedDemand--
    return debt
  }

  get #aheadBytes(): number {
    return this.estimate.paced.bytes * (this.lastResort ? 1 : WINDOWS_AHEAD)
  }

  /** Whoever fetches on this peer's behalf may be silent meanwhile. */
  get #owesDirectly(): number {
    return this.owes.size - this.helper.asked
  }

  /** It gave something, or is kept from it. */
  heard(nowMs: number): void {
    this.#answeredMs = nowMs
    this.#heardMs = nowMs
    this.#excused = false
    this.#redials = 0
  }

  /** Bytes came from it, whatever they are. @returns whether that says that it is alive */
  chattered(nowMs: number): boolean {
    if (nowMs > this.#answeredMs + MAX_CHATTER_MS) return false
    this.#heardMs = nowMs
    this.#excused = false
    this.#redials = 0
    return true
  }

  /** Whether a guest has waited for a debt for longer than anybody may keep it waiting. One on behalf has times of its own. */
  isOutlived({ demandMs, direct }: Debt, nowMs: number): boolean {
    return direct !== undefined && demandMs !== undefined && nowMs >= demandMs + LONGEST_DEMAND_MS
  }

  /**
   * This process was busy, and may not have read yet what came: the silence counts from now. Once for each silence, or a process that
   * is always busy would never notice one.
   */
  excuse(nowMs: number): void {
    if (this.#excused) return
    this.#heardMs = nowMs
    this.#answeredMs = nowMs
    this.#excused = true
  }

  /** When its silence becomes a stall, and a stall the end; undefined while it owes nothing. */
  stallAtMs(): number | undefined {
    if (this.#owesDirectly === 0) return undefined
    if (this.stalled) return this.#heardMs + STALL_DROP_MS
    return this.#heardMs + Math.max(STALL_FLOOR_MS, STALL_TIMEOUTS * this.estimate.timeoutMs)
  }

  /** When its silence, while a guest waits, becomes suspicious; undefined while no guest does, or once it has. */
  suspectAtMs(): number | undefined {
    if (this.#owedDemand === 0 || this.suspected) return undefined
    return Math.max(this.#heardMs, this.#demandMs) + this.estimate.timeoutMs + SUSPECT_MS
  }

  /** When a suspected peer is to be called anew; undefined while it is not suspected. */
  redialAtMs(): number | undefined {
    return this.suspected ? this.#redialMs : undefined
  }

  noteRedial(nowMs: number): void {
    this.#redialMs = nowMs + REDIAL_MS * 2 ** this.#redials++
  }

  #owesMoreDemand(nowMs: number): void {
    if (this.#owedDemand++ === 0) this.#demandMs = nowMs
  }

  /** When a debt is later than could be expected of this peer. */
  lateAtMs({ direct, behalf }: Debt): number {
    if (direct === undefined) return behalf?.lateMs ?? Number.POSITIVE_INFINITY
    return direct.expectedMs + Math.max(LATE_FLOOR_MS, 4 * this.estimate.deviationMs)
  }
}

function newDebt(rank: Rank, nowMs: number): Debt {
  const demandMs = rank === DEMAND ? nowMs : undefined
  return { rank, demandMs, direct: undefined, behalf: undefined, overdue: false, calledOff: false }
}
