/**
 * What one neighbour fetches on this peer's behalf: how much it was asked for, and whether that is worth it.
 *
 * A request on behalf is answered only when the neighbour has fetched the block from far away. So it says nothing of the neighbour's own
 * round trip and rate, fills no window of its, and its silence meanwhile is no stall. It has its own measures instead: a limit, a time by
 * which it is late (a guest's block is then asked of somebody else too), and a time by which it is overdue (then the block goes back
 * into the line, and the neighbour is left alone for a while, each time for longer).
 */

import { INITIAL_WINDOW_BYTES, MAX_ASKED_ON_BEHALF } from './limits.ts'
import type { Rank } from './messages.ts'

const DEMAND: Rank = 0
/** Asked for at a time: what this peer's own far link would bring meanwhile. */
const WINDOW_MS = 1_000
/** A guest's blocks go beyond the limit by so many. */
const DEMAND_EXTRA = 16
/** Overdue: twice the time that it was expected to take, and this much longer. */
const OVERDUE_DEMAND_MS = 500
const OVERDUE_MS = 2_000
/** At a time, of one that has given nothing so far, and of one that has disappointed: of the latter nothing that a guest waits for. */
const UNPROVEN = 8
const UNPROVEN_DEMAND = 1
const ON_PROBATION = 4
const FIRST_REST_MS = 2_000
const MAX_REST_MS = 60_000
/** A guest's blocks that came late, less those that came in time: so many, and it gets none for a while. */
const MAX_LATE = 6
const REST_FOR_GUESTS_MS = 2_000

/** When an answer is expected, and from when on it is late or overdue. */
export interface Due {
  bytes: number
  askedMs: number
  lateMs: number
  overdueMs: number
}

export class HelperBook {
  readonly #images = new Set<number>()
  #asked = 0
  #askedDemand = 0
  #askedBytes = 0
  #strikes: number
  #restsUntilMs = 0
  #restsForGuestsUntilMs = 0
  #late = 0
  #gaveMs = Number.NEGATIVE_INFINITY

  /** @param isDoubtful - it is on probation from the start */
  constructor(isDoubtful: boolean) {
    this.#strikes = isDoubtful ? 1 : 0
  }

  get owesDemand(): boolean {
    return this.#askedDemand > 0
  }

  get asked(): number {
    return this.#asked
  }

  get askedBytes(): number {
    return this.#askedBytes
  }

  /** Whether it fetches blocks of this image for this peer. As many images as are open on one stream, at most. */
  isFor(image: number): boolean {
    return this.#images.has(image)
  }

  get isForAny(): boolean {
    return this.#images.size > 0
  }

  helps(image: number, helps: boolean): void {
    if (helps) this.#images.add(image)
    else this.#images.delete(image)
  }

  /** When it gave something last. */
  get gaveMs(): number {
    return this.#gaveMs
  }

  /** Left alone because it disappointed. */
  rests(nowMs: number): boolean {
    return nowMs < this.#restsUntilMs
  }

  /** @param rateBytesPerSecond - of this peer's own way to the block, undefined where it was not measured */
  hasRoom(rank: Rank, rateBytesPerSecond: number | undefined, nowMs: number): boolean {
    if (rank === DEMAND && nowMs < this.#restsForGuestsUntilMs) return false
    if (this.#strikes > 0) return rank !== DEMAND && this.#asked < ON_PROBATION
    if (!this.#isProven) return this.#asked < UNPROVEN && (rank !== DEMAND || this.#askedDemand < UNPROVEN_DEMAND)
    const windowBytes = Math.max(INITIAL_WINDOW_BYTES, ((rateBytesPerSecond ?? 0) * WINDOW_MS) / 1000)
    if (rank === DEMAND) return this.#asked < MAX_ASKED_ON_BEHALF
    return this.#asked < MAX_ASKED_ON_BEHALF - DEMAND_EXTRA && this.#askedBytes < windowBytes
  }

  /** @param expectedMs - when it should be here; `marginMs` is how much later would not astonish */
  due(
    rank: Rank,
    bytes: number,
    { nowMs, expectedMs, marginMs }: { nowMs: number; expectedMs: number; marginMs: number }
  ): Due {
    const graceMs = rank === DEMAND ? OVERDUE_DEMAND_MS : OVERDUE_MS
    return {
      bytes,
      askedMs: nowMs,
      lateMs: expectedMs + marginMs,
      overdueMs: expectedMs + marginMs + (expectedMs - nowMs) + graceMs
    }
  }

  ask(rank: Rank, { bytes }: Due): void {
    this.#asked++
    this.#askedBytes += bytes
    if (rank === DEMAND) this.#askedDemand++
  }

  raised(): void {
    this.#askedDemand++
  }

  /** It was answered, one way or another. */
  settle(rank: Rank, { bytes }: Due): void {
    this.#asked--
    this.#askedBytes -= bytes
    if (rank === DEMAND) this.#askedDemand--
  }

  /** It gave a block. */
  gave(rank: Rank, { lateMs, overdueMs }: Due, nowMs: number): void {
    this.#gaveMs = nowMs
    if (nowMs < overdueMs) this.#strikes = 0
    if (rank !== DEMAND) return
    if (nowMs >= lateMs) this.wasLate(nowMs)
    else this.#late = Math.max(0, this.#late - 1)
  }

  /** A guest waited for it. It may be as busy as its line: what no guest waits for is asked of it all the same. */
  wasLate(nowMs: number): void {
    if (++this.#late < MAX_LATE) return
    this.#late = 0
    this.#restsForGuestsUntilMs = nowMs + REST_FOR_GUESTS_MS
  }

  get #isProven(): boolean {
    return this.#gaveMs !== Number.NEGATIVE_INFINITY
  }

  /** It refused, or let this peer wait too long. One rest at a time, however many blocks that was about. */
  disappointed(nowMs: number): void {
    if (this.rests(nowMs)) return
    this.#restsUntilMs = nowMs + Math.min(MAX_REST_MS, FIRST_REST_MS * 2 ** this.#strikes++)
  }
}
