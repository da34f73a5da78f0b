/**
 * How long a guest waited for the network.
 *
 * Wall-clock ratios of whole boots drift with the machine, so what is measured is the time with at least one demand
 * read pending: overlapping waits count once.
 */
import type { Clock } from '../environment.ts'

export class WaitMeter {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  #pending = 0
  #sinceMs = 0
  #waitedMs = 0
  #longestMs = 0
  #reads = 0

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  /** Time with at least one read pending, the present one included. */
  get waitedMs(): number {
    return this.#waitedMs + (this.#pending > 0 ? this.#clock.monotonicMs() - this.#sinceMs : 0)
  }

  /** The longest wait of one read that is over. */
  get longestMs(): number {
    return this.#longestMs
  }

  /** Reads that had to wait, the pending ones included. */
  get reads(): number {
    return this.#reads
  }

  /** Counts the read that `work` is, until it settles. */
  async during<T>(work: Promise<T>): Promise<T> {
    const startMs = this.#clock.monotonicMs()
    this.#reads++
    if (this.#pending++ === 0) this.#sinceMs = startMs
    try {
      return await work
    } finally {
      const endMs = this.#clock.monotonicMs()
      this.#longestMs = Math.max(this.#longestMs, endMs - startMs)
      if (--this.#pending === 0) this.#waitedMs += endMs - this.#sinceMs
    }
  }
}
