/** Time-outs as signals, on the injected clock. */

import type { Clock } from './environment.ts'
import { RowanError } from './errors.ts'

export interface Deadline {
  signal: AbortSignal
  /** Must be called once the work is over, or the timer stays. */
  clear(): void
}

/** A signal that fires when a caller's does, or after `limitMs`: for work that gives what it has when time is up. */
export function deadline(clock: Clock, limitMs: number, callers?: AbortSignal): Deadline {
  const controller = new AbortController()
  const timer = clock.after(limitMs, () => controller.abort())
  const signal = callers === undefined ? controller.signal : AbortSignal.any([controller.signal, callers])
  return { signal, clear: () => timer.cancel() }
}

/**
 * Runs `work` with a signal that aborts after `timeoutMs`, or when `parent` does.
 *
 * When time is up the returned promise fails with `code`, whether `work` heeds its signal or not.
 */
export async function withDeadline<T>(
  clock: Clock,
  timeoutMs: number,
  parent: AbortSignal | undefined,
  code: 'TIMEOUT_DIAL' | 'TIMEOUT_RESPONSE' | 'ABORTED',
  work: (signal: AbortSignal) => Promise<T>
): Promise<T> {
  if (parent?.aborted) throw stopped(parent)
  const controller = new AbortController()
  const aborted = Promise.withResolvers<never>()
  const stop = (error: RowanError) => {
    controller.abort(error)
    aborted.reject(error)
  }
  const onParent = () => stop(stopped(parent!))
  const timer = clock.after(timeoutMs, () => stop(new RowanError(code, `no answer within ${timeoutMs} ms`)))
  parent?.addEventListener('abort', onParent, { once: true })
  try {
    return await Promise.race([aborted.promise, work(controller.signal)])
  } catch (error) {
    throw controller.signal.aborted ? controller.signal.reason : error
  } finally {
    timer.cancel()
    parent?.removeEventListener('abort', onParent)
  }
}

/**
 * What `work` comes to, or an error where it takes too long: it goes on then, and nobody hears of it any more.
 *
 * @param late - the error; made only when it is needed
 */
export async function inTime<T>(
  work: Promise<T>,
  clock: Pick<Clock, 'after'>,
  timeoutMs: number,
  late: () => RowanError
): Promise<T> {
  const over = Promise.withResolvers<never>()
  const timer = clock.after(timeoutMs, () => over.reject(late()))
  try {
    return await Promise.race([work, over.promise])
  } finally {
    timer.cancel()
  }
}

function stopped(signal: AbortSignal): RowanError {
  return new RowanError('ABORTED', 'the work was stopped', { cause: signal.reason })
}
