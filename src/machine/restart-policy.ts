/**
 * Whether a disk whose thread has died is served again by itself.
 *
 * A guest that waits for its disk should get it back; a disk that dies again and again (a damaged layer that nobody has
 * foreseen, a request that kills) should not keep the host busy. A step machine: `died` is the event, the answer the action.
 */

/** Deaths within PERIOD_MS after which a person has to look. */
export const MAX_DEATHS = 4
export const PERIOD_MS = 10 * 60_000

export class RestartPolicy {
  /** When it died, within the period. */
  #deathsMs: number[] = []

  died(nowMs: number): 'restart' | 'give up' {
    this.#deathsMs = this.#deathsMs.filter(atMs => nowMs - atMs < PERIOD_MS)
    this.#deathsMs.push(nowMs)
    return this.#deathsMs.length < MAX_DEATHS ? 'restart' : 'give up'
  }

  /** Somebody has looked. */
  reset(): void {
    this.#deathsMs = []
  }
}
