/**
 * How much of what no guest waits for may be under way from one peer: as much as keeps the line busy, and its queue short.
 *
 * On a home line a fill and a guest's read share one queue, in the router or wherever the line is narrowest. What is in the queue
 * when the read goes out comes before its answer. So the window follows the delay that it causes, in the manner of LEDBAT (RFC 6817),
 * with a correction of LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus): each round trip it grows by a block and a little while the
 * queueing delay is below the target, and shrinks in proportion to what is above. All that share the line see the same delay, and so give way to
 * each other and to anything else. It starts by doubling each round trip, and stops that at three quarters of the target. The way up
 * of whoever serves is paced by the same means: its queue delays the answers too.
 *
 * The queueing delay of an answer is its time beyond the base round trip, less what the block itself takes on the line: the least time
 * for each byte seen so far. Of several the least counts, since what comes behind others of its own request waited for those: of a
 * round trip's answers in general, of the last few in slow start, where a round trip is too late. The very first requests all go out
 * at once, so their delays say nothing about it. Before a window shrinks, two round trips must have seen the delay: one that is
 * late because a host was busy is no queue.
 *
 * Pure: the time comes with every call.
 */

import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_WINDOW_BYTES } from './limits.ts'

/**
 * The queueing delay that is steered for. It is the least of a round that is compared with this; the mean is about 10 ms more, and so
 * the 25 ms that may be caused.
 */
export const QUEUE_TARGET_MS = 15
/** Slow start ends here: by the time that it shows, what was sent meanwhile adds to the queue. */
const SLOW_START_SHARE = 0.75
const SLOW_START_SAMPLES = 4
/** A window never shrinks by more in a round, and may grow by this share beside a block. */
const MAX_SHRINK = 0.25
const GROWTH = 1 / 32
/** Smaller answers say little about what a byte takes. */
const TELLING_BYTES = 16 * 1024

export interface PacedAnswer {
  sentMs: number
  bytes: number
  /** The least round trip known of this peer. */
  baseRttMs: number
  /** Undefined before anything was measured. */
  rateBytesPerSecond: number | undefined
  /** What a block costs on this wire on average. */
  blockBytes: number
}

export class PacedWindow {
  #bytes = INITIAL_WINDOW_BYTES
  #leastBytes = MIN_WINDOW_BYTES
  #slowStart = true
  /** The time that a byte takes on the line, at best. */
  #msPerByte = Number.POSITIVE_INFINITY
  #lastDelaysMs: number[] = []
  #firstAnswerMs: number | undefined
  #roundStartMs = 0
  #roundDelayMs = Number.POSITIVE_INFINITY
  #previousDelayMs = Number.POSITIVE_INFINITY
  #usedUp = false

  get bytes(): number {
    return this.#bytes
  }

  /** The window held something back (credit.ts). A window that is not used up does not grow. */
  noteFull(): void {
    this.#usedUp = true
  }

  answered({ sentMs, bytes, baseRttMs, rateBytesPerSecond, blockBytes }: PacedAnswer, nowMs: number): void {
    const beyondMs = Math.max(0, nowMs - sentMs - baseRttMs)
    if (bytes >= TELLING_BYTES) this.#msPerByte = Math.min(this.#msPerByte, beyondMs / bytes)
    const ownMs = this.#msPerByte === Number.POSITIVE_INFINITY ? 0 : this.#msPerByte * bytes
    const delayMs = Math.max(0, beyondMs - ownMs)
    this.#roundDelayMs = Math.min(this.#roundDelayMs, delayMs)
    // Half a window that flows at the measured rate cannot fill a queue; a busy host must not look like one.
    const halfMs = (baseRttMs + QUEUE_TARGET_MS) / 2
    this.#leastBytes = Math.max(MIN_WINDOW_BYTES, ((rateBytesPerSecond ?? 0) * halfMs) / 1000)
    if (this.#slowStart) this.#grow(sentMs, bytes, delayMs, ((rateBytesPerSecond ?? 0) * 2 * halfMs) / 1000, nowMs)
    // A round is over with the first answer to what was asked for in it.
    if (sentMs >= this.#roundStartMs) this.#endRound(blockBytes, nowMs)
  }

  #grow(sentMs: number, bytes: number, delayMs: number, enoughBytes: number, nowMs: number): void {
    if (this.#usedUp) this.#set(this.#bytes + bytes)
    this.#firstAnswerMs ??= nowMs
    if (sentMs < this.#firstAnswerMs) return
    this.#lastDelaysMs.push(delayMs)
    if (this.#lastDelaysMs.length > SLOW_START_SAMPLES) this.#lastDelaysMs.shift()
    if (this.#lastDelaysMs.length < SLOW_START_SAMPLES) return
    if (Math.min(...this.#lastDelaysMs) <= SLOW_START_SHARE * QUEUE_TARGET_MS) return
    this.#slowStart = false
    if (enoughBytes > 0) this.#set(Math.min(this.#bytes, enoughBytes))
  }

  #endRound(blockBytes: number, nowMs: number): void {
    const below = 1 - this.#roundDelayMs / QUEUE_TARGET_MS
    const above = Math.min(this.#roundDelayMs, this.#previousDelayMs) / QUEUE_TARGET_MS - 1
    if (!this.#slowStart) {
      if (above > 0) this.#set(this.#bytes * (1 - Math.min(MAX_SHRINK, above)))
      else if (below > 0 && this.#usedUp) this.#set(this.#bytes + (blockBytes + this.#bytes * GROWTH) * below)
    }
    this.#previousDelayMs = this.#roundDelayMs
    this.#roundDelayMs = Number.POSITIVE_INFINITY
    this.#roundStartMs = nowMs
    this.#usedUp = false
  }

  #set(bytes: number): void {
    this.#bytes = Math.min(MAX_WINDOW_BYTES, Math.max(this.#leastBytes, bytes))
  }
}
