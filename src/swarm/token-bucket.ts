/**
 * A rate limit: tokens are bytes, they flow in at a fixed rate, and what is sent takes them out.
 *
 * What is sent may overdraw the bucket (a block is sent whole); the next then waits until the debt is paid. Pure: the time comes
 * with every call.
 */
export class TokenBucket {
  readonly #bytesPerSecond: number
  readonly #capacityBytes: number
  #tokens: number
  #filledMs: number

  /** @param capacityBytes - what may go out at once after a silence */
  constructor(bytesPerSecond: number, capacityBytes: number, nowMs: number) {
    this.#bytesPerSecond = bytesPerSecond
    this.#capacityBytes = capacityBytes
    this.#tokens = capacityBytes
    this.#filledMs = nowMs
  }

  take(bytes: number, nowMs: number): void {
    this.#fill(nowMs)
    this.#tokens -= bytes
  }

  /** Milliseconds until something may be sent; 0 when it may be now. */
  waitMs(nowMs: number): number {
    this.#fill(nowMs)
    return this.#tokens > 0 ? 0 : Math.ceil(((1 - this.#tokens) * 1000) / this.#bytesPerSecond)
  }

  #fill(nowMs: number): void {
    const gained = ((nowMs - this.#filledMs) * this.#bytesPerSecond) / 1000
    this.#tokens = Math.min(this.#capacityBytes, this.#tokens + Math.max(0, gained))
    this.#filledMs = nowMs
  }
}
