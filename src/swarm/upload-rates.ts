/**
 * How fast this peer sends: a rate for all that is large (blocks, and the index, which somebody could ask for over and over), and within
 * it one for what it gives as a courtesy (traffic-limits.ts says to whom). Pure: the time comes with every call.
 */

import { TokenBucket } from './token-bucket.ts'
import type { TrafficLimits } from './traffic-limits.ts'

/** What may go out at once after a silence, in time of the rate. */
const BURST_SECONDS = 0.02
const MIN_BURST_BYTES = 64 * 1024

export class UploadRates {
  #all: TokenBucket | undefined
  #courtesies: TokenBucket | undefined

  /** From now on. */
  limit(limits: Pick<TrafficLimits, 'maxUploadBytesPerSecond' | 'maxCourtesyBytesPerSecond'>, nowMs: number): void {
    this.#all = bucketOf(limits.maxUploadBytesPerSecond, nowMs)
    this.#courtesies = bucketOf(limits.maxCourtesyBytesPerSecond, nowMs)
  }

  spend(bytes: number, isCourtesy: boolean, nowMs: number): void {
    this.#all?.take(bytes, nowMs)
    if (isCourtesy) this.#courtesies?.take(bytes, nowMs)
  }

  /** Milliseconds until anything may be sent; 0 when it may be now. */
  waitMs(nowMs: number): number {
    return this.#all?.waitMs(nowMs) ?? 0
  }

  /** The same for a courtesy, as far as its own rate goes. */
  courtesyWaitMs(nowMs: number): number {
    return this.#courtesies?.waitMs(nowMs) ?? 0
  }
}

function bucketOf(rate: number, nowMs: number): TokenBucket | undefined {
  if (!Number.isFinite(rate)) return undefined
  return new TokenBucket(rate, Math.max(MIN_BURST_BYTES, rate * BURST_SECONDS), nowMs)
}
