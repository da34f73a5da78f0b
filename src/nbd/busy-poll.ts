/**
 * Keeps the thread awake for a moment after a lone client was answered, as far as poll-policy.ts allows.
 *
 * An immediate makes the event loop look at its sockets without waiting, and everything else that is due gets its turn as
 * always. One for all connections of a server: what is burnt in vain is bounded for the thread.
 */
import type { Clock } from '../environment.ts'
import { PollPolicy } from './poll-policy.ts'

export class BusyPoll {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #policy = new PollPolicy()
  #isLooking = false

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  /** See PollPolicy. */
  answered(): void {
    if (!this.#policy.answered(this.#clock.monotonicMs()) || this.#isLooking) return
    this.#isLooking = true
    setImmediate(this.#look)
  }

  /** See PollPolicy. */
  arrived(): void {
    this.#policy.arrived(this.#clock.monotonicMs())
  }

  /** See PollPolicy. */
  crowded(): void {
    this.#policy.crowded()
  }

  readonly #look = (): void => {
    this.#isLooking = this.#policy.look(this.#clock.monotonicMs())
    if (this.#isLooking) setImmediate(this.#look)
  }
}
