/**
 * Carries out a plan of announcements: a few at a time, on the injected clock.
 *
 * Owns: the timer. Does not own: what is due when (announce-plan.ts, lease-plan.ts), nor how to announce
 * (own-replicas.ts, own-leases.ts).
 */

import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { ANNOUNCEMENTS_AT_ONCE } from './limits.ts'

export interface Outcome {
  asked: number
  kept: number
}

/** What is due when; `now` is monotonic. */
export interface Plan<What> {
  due(now: number, count: number): What[]
  done(what: What, outcome: Outcome, now: number): void
  nextMs(): number | undefined
}

export type Announce<What> = (what: What, signal: AbortSignal) => Promise<Outcome>

export class Announcer<What extends object> {
  readonly #plan: Plan<What>
  readonly #announce: Announce<What>
  readonly #clock: Clock
  readonly #log: Log
  readonly #stopped = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  #timer: Timer | undefined
  #isStarted = false

  constructor(components: { plan: Plan<What>; announce: Announce<What>; clock: Clock; log: Log }) {
    this.#plan = components.plan
    this.#announce = components.announce
    this.#clock = components.clock
    this.#log = components.log
  }

  start(): void {
    this.#isStarted = true
    this.wake()
  }

  /** Begins nothing more, and waits for what is under way to notice. */
  async stop(): Promise<void> {
    this.#isStarted = false
    this.#stopped.abort()
    this.#timer?.cancel()
    await Promise.all(this.#underWay)
  }

  /** The plan has changed, or time has come. */
  wake(): void {
    this.#timer?.cancel()
    if (!this.#isStarted) return
    const now = this.#clock.monotonicMs()
    for (const what of this.#plan.due(now, ANNOUNCEMENTS_AT_ONCE - this.#underWay.size)) {
      const run = this.#run(what).finally(() => {
        this.#underWay.delete(run)
        this.wake()
      })
      this.#underWay.add(run)
    }
    // With all hands busy the next one is begun when one of them is free.
    const next = this.#plan.nextMs()
    if (next === undefined || this.#underWay.size >= ANNOUNCEMENTS_AT_ONCE) return
    this.#timer = this.#clock.after(Math.max(0, next - now), () => this.wake())
  }

  async #run(what: What): Promise<void> {
    let outcome: Outcome = { asked: 0, kept: 0 }
    try {
      outcome = await this.#announce(what, this.#stopped.signal)
    } catch (cause) {
      const error = asRowanError(cause, 'INTERNAL')
      if (!this.#stopped.signal.aborted) {
        this.#log.debug('an announcement failed', { ...what, code: error.code, message: error.message })
      }
    }
    this.#plan.done(what, outcome, this.#clock.monotonicMs())
  }
}
