import type { Clock } from '../../../../src/environment.ts'

/** Time that a test moves. */
export class HeldClock implements Pick<Clock, 'monotonicMs' | 'after'> {
  #nowMs = 0
  #timers: { atMs: number; run: () => void }[] = []

  monotonicMs() {
    return this.#nowMs
  }

  after(delayMs: number, run: () => void) {
    const timer = { atMs: this.#nowMs + delayMs, run }
    this.#timers.push(timer)
    const cancel = () => {
      this.#timers = this.#timers.filter(each => each !== timer)
    }
    return { cancel }
  }

  async pass(ms: number): Promise<void> {
    this.#nowMs += ms
    const due = this.#timers.filter(({ atMs }) => atMs <= this.#nowMs)
    this.#timers = this.#timers.filter(timer => !due.includes(timer))
    for (const { run } of due) run()
    // Real files are written between two pieces.
    await new Promise(resolve => setTimeout(resolve, 1))
  }
}
