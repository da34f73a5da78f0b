/**
 * A signal that fires when a caller's does, or after a time of the injected clock.
 */
import type { Clock } from '../environment.ts'

export interface Deadline {
  signal: AbortSignal
  /** Must be called once the work is over, or the timer stays. */
  clear(): void
}

export function deadline(clock: Clock, limitMs: number, callers?: AbortSignal): Deadline {
  const controller = new AbortController()
  const timer = clock.after(limitMs, () => controller.abort())
  const signal = callers === undefined ? controller.signal : AbortSignal.any([controller.signal, callers])
  return { signal, clear: () => timer.cancel() }
}
