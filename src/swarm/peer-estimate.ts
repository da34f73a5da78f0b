/**
 * What is measured of one peer: its round trip, its rate, and from both how much may be asked of it at once.
 *
 * - Time-out: smoothed round trip and deviation of request to answer (RFC 6298).
 * - Rate: bytes delivered between a request's sending and its answer, over the longer of the times in which they were sent and
 *   answered; of these samples the greatest of the last seconds (BBR, draft-ietf-ccwg-bbr, section 4.1). A sample taken while
 *   little was asked for says what was asked, not what the link can do: it is a guess until there is a better one.
 * - Base round trip: the least of the last ten minutes, in one-minute buckets (LEDBAT's base delay, RFC 6817 section 4.2).
 *
 * In flight is the bandwidth-delay product and what the aimed-at queue holds; an unknown peer starts with a few blocks and doubles each
 * round trip, because what it delivers is what was asked of it. That is for demand; what is below has a window of its own, which
 * follows the delay (paced-window.ts).
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_WINDOW_BYTES } from './limits.ts'
import { PacedWindow, QUEUE_TARGET_MS } from './paced-window.ts'

/** BBR's startup gain, 2/ln 2: enough to double the rate each round trip. */
const STARTUP_GAIN = 2.89
/** Startup ends when the rate grew by less than a quarter in each of three round trips. */
const STARTUP_GROWTH = 1.25
const STARTUP_FLAT_ROUNDS = 3
const RATE_BUCKET_MS = 2500
const BASE_BUCKET_MS = 60_000
const BASE_BUCKETS = 10
const INITIAL_RTO_MS = 1000
const MIN_RTO_MS = 100
const MAX_RTO_MS = 30_000
/** Until something was measured: a modest home line. */
const UNKNOWN_RTT_MS = 100
const UNKNOWN_RATE_BYTES_PER_SECOND = 1e6
const ALPHA = 1 / 8
const BETA = 1 / 4
const SIZE_GAIN = 1 / 16

/** What must be remembered of a request until it is answered. */
export interface SentMark {
  sentMs: number
  deliveredBytes: number
  deliveredMs: number
  firstSentMs: number
  /** Less was in flight than would have been allowed. */
  limitedByUs: boolean
}

export class PeerEstimate {
  /** For all that is below demand. */
  readonly paced = new PacedWindow()
  #smoothedMs: number | undefined
  #deviationMs = 0
  readonly #baseBuckets: number[] = []
  /** The least of them: asked for very often. */
  #baseMs = UNKNOWN_RTT_MS
  #baseBucketMs = 0
  #rate = 0
  #previousRate = 0
  #rateBucketMs = 0
  #isMeasured = false
  #answers = 0
  #deliveredBytes = 0
  #deliveredMs = 0
  #firstSentMs = 0
  #blockBytes = BLOCK_SIZE_BYTES
  #startup = true
  #roundEndsAtBytes = 0
  #roundRate = 0
  #flatRounds = 0

  get smoothedRttMs(): number | undefined {
    return this.#smoothedMs
  }

  get deviationMs(): number {
    return this.#deviationMs
  }

  get baseRttMs(): number {
    return this.#baseMs
  }

  /** Requests that were answered with what was asked for. */
  get answers(): number {
    return this.#answers
  }

  /** Whether the rate is more than a first guess. */
  get isMeasured(): boolean {
    return this.#isMeasured
  }

  /** Undefined before the first block. */
  get rateBytesPerSecond(): number | undefined {
    const rate = Math.max(this.#rate, this.#previousRate)
    return rate > 0 ? rate : undefined
  }

  /** What a block costs on this peer's wire, compressed or not. */
  get blockBytes(): number {
    return this.#blockBytes
  }

  /** RFC 6298: smoothed round trip and four deviations. */
  get timeoutMs(): number {
    if (this.#smoothedMs === undefined) return INITIAL_RTO_MS
    return Math.min(MAX_RTO_MS, Math.max(MIN_RTO_MS, this.#smoothedMs + 4 * this.#deviationMs))
  }

  /** What demand may have in flight to this peer. */
  get windowBytes(): number {
    const rate = this.rateBytesPerSecond
    if (rate === undefined) return INITIAL_WINDOW_BYTES
    const ms = this.baseRttMs * (this.#startup ? STARTUP_GAIN : 1) + QUEUE_TARGET_MS
    const floor = this.#startup ? INITIAL_WINDOW_BYTES : MIN_WINDOW_BYTES
    return Math.min(MAX_WINDOW_BYTES, Math.max(floor, (rate * ms) / 1000 + this.#blockBytes))
  }

  /** When a block asked for now would be here, behind `outstandingBytes` that are under way. */
  arrivalMs(nowMs: number, outstandingBytes: number): number {
    const rate = this.rateBytesPerSecond ?? UNKNOWN_RATE_BYTES_PER_SECOND
    return nowMs + this.baseRttMs + ((outstandingBytes + this.#blockBytes) * 1000) / rate
  }

  /** A round trip that carried next to nothing, such as the greeting's. */
  addRoundTrip(rttMs: number, nowMs: number): void {
    const sampleMs = Math.max(0.05, rttMs)
    if (this.#smoothedMs === undefined) {
      this.#smoothedMs = sampleMs
      this.#deviationMs = sampleMs / 2
    } else {
      this.#deviationMs = (1 - BETA) * this.#deviationMs + BETA * Math.abs(this.#smoothedMs - sampleMs)
      this.#smoothedMs = (1 - ALPHA) * this.#smoothedMs + ALPHA * sampleMs
    }
    if (this.#baseBuckets.length === 0 || nowMs - this.#baseBucketMs > BASE_BUCKET_MS) {
      this.#baseBuckets.push(sampleMs)
      this.#baseBucketMs = nowMs
      if (this.#baseBuckets.length > BASE_BUCKETS) this.#baseBuckets.shift()
    }
    const last = this.#baseBuckets.length - 1
    this.#baseBuckets[last] = Math.min(this.#baseBuckets[last]!, sampleMs)
    this.#baseMs = Math.min(...this.#baseBuckets)
  }

  /** A round trip that may have taken longer than the way: it counts if it is shorter than any before. */
  notePossible(rttMs: number, nowMs: number): void {
    if (rttMs < this.#baseMs) this.addRoundTrip(rttMs, nowMs)
  }

  /** A request goes out while `outstandingBytes` are under way. */
  sent(nowMs: number, outstandingBytes: number): SentMark {
    if (outstandingBytes === 0) {
      this.#deliveredMs = nowMs
      this.#firstSentMs = nowMs
    }
    return {
      sentMs: nowMs,
      deliveredBytes: this.#deliveredBytes,
      deliveredMs: this.#deliveredMs,
      firstSentMs: this.#firstSentMs,
      limitedByUs: outstandingBytes + this.#blockBytes < Math.min(this.windowBytes, this.paced.bytes) / 2
    }
  }

  /**
   * A request was answered with `bytes` on the wire.
   *
   * @param sentMs - from when on it could be answered: not before it had credit
   */
  answered(mark: SentMark, bytes: number, nowMs: number, sentMs = mark.sentMs): void {
    this.#answers++
    this.addRoundTrip(nowMs - sentMs, nowMs)
    this.#blockBytes += SIZE_GAIN * (bytes - this.#blockBytes)
    this.#deliveredBytes += bytes
    const elapsedMs = Math.max(mark.sentMs - mark.firstSentMs, nowMs - mark.deliveredMs)
    this.#deliveredMs = nowMs
    this.#firstSentMs = mark.sentMs
    const { baseRttMs, rateBytesPerSecond, blockBytes } = this
    this.paced.answered({ sentMs, bytes, baseRttMs, rateBytesPerSecond, blockBytes }, nowMs)
    // Shorter than any round trip is an artefact of answers that came in one heap.
    if (elapsedMs < this.baseRttMs || elapsedMs <= 0) return
    const sample = ((this.#deliveredBytes - mark.deliveredBytes) * 1000) / elapsedMs
    if (mark.limitedByUs) {
      // A first guess, until the link was measured: what came was what was asked for, or a burst of somebody's rate limit.
      if (!this.#isMeasured) this.#rate = Math.max(this.#rate, sample)
      return
    }
    if (!this.#isMeasured) {
      this.#isMeasured = true
      this.#rate = 0
    }
    if (nowMs - this.#rateBucketMs > RATE_BUCKET_MS) {
      this.#previousRate = this.#rate
      this.#rate = 0
      this.#rateBucketMs = nowMs
    }
    this.#rate = Math.max(this.#rate, sample)
    if (this.#startup) this.#watchGrowth(mark)
  }

  /** One round is over when something is answered that was asked for after the last round's end. */
  #watchGrowth(mark: SentMark): void {
    if (mark.deliveredBytes < this.#roundEndsAtBytes) return
    this.#roundEndsAtBytes = this.#deliveredBytes
    const rate = Math.max(this.#rate, this.#previousRate)
    this.#flatRounds = rate < this.#roundRate * STARTUP_GROWTH ? this.#flatRounds + 1 : 0
    if (this.#flatRounds === 0) this.#roundRate = rate
    if (this.#flatRounds >= STARTUP_FLAT_ROUNDS) this.#startup = false
  }
}
