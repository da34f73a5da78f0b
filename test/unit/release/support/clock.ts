/** A clock that a test holds in its hand. */
import type { Clock, Timer } from '../../../../src/environment.ts'

export class ManualClock implements Clock {
  #now: number
  readonly #timers = new Set<{ atMs: number; run: () => void }>()

  constructor(nowMs = Date.UTC(2026, 10, 21)) {
    this.#now = nowMs
  }

  now(): number {
    return this.#now
  }

  monotonicMs(): number {
    return this.#now
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.#now + delayMs, run }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** How many timers wait. */
  get waiting(): number {
    return this.#timers.size
  }

  /** Lets time pass; timers fire in order. */
  advance(ms: number): void {
    const endMs = this.#now + ms
    for (;;) {
      const [next] = [...this.#timers].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs)
      if (next === undefined) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.atMs)
      next.run()
    }
    this.#now = endMs
  }
}
