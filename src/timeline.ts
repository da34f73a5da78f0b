/**
 * A time line: what happened when, from the start of something that is expected to be fast.
 *
 * Bounded: it is about a start, so what comes after the first marks is left out.
 */
import type { Clock } from './environment.ts'

export interface Mark {
  /** What happened, in a few words. */
  what: string
  /** By the monotonic clock. */
  atMs: number
  /** The peer that it happened with. */
  peer?: string
  /** Where it took one round trip of an idle link: how long that was. */
  rttMs?: number
}

export const MAX_MARKS = 64

export class Timeline {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #marks: Mark[] = []
  readonly #once = new Set<string>()

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  get marks(): readonly Mark[] {
    return this.#marks
  }

  mark(what: string, of: Omit<Mark, 'what' | 'atMs'> = {}): void {
    if (this.#marks.length < MAX_MARKS) this.#marks.push({ what, atMs: this.#clock.monotonicMs(), ...of })
  }

  /** Only the first of its kind. */
  markOnce(what: string, of: Omit<Mark, 'what' | 'atMs'> = {}): void {
    if (this.#once.has(what) || this.#marks.length >= MAX_MARKS) return
    this.#once.add(what)
    this.mark(what, of)
  }

  /** The beginning of something new: what was before does not belong to it. */
  restart(): void {
    this.#marks.length = 0
    this.#once.clear()
  }
}
