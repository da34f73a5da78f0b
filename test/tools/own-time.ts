/**
 * The time that something takes by itself, on a machine that is busy with other things as well.
 *
 * A clock also counts while this thread would have gone on, but others had the processor. Linux counts that for each thread
 * (`schedstat`, Documentation/scheduler/sched-stats.rst: nanoseconds spent waiting on a run queue), so it can be taken off. Only of the
 * thread that measures: what it waits for stays in, whatever kept that. So it is not for what is slowed down on purpose, where
 * the thread's queueing hides behind the pace; there the best of several tries by the clock counts (`bestMs`).
 * Elsewhere than on Linux the clock's time is all there is.
 */
import { readFileSync } from 'node:fs'

/** How long this thread has waited for a processor so far, in ms. */
function queuedMs(): number {
  if (process.platform !== 'linux') return 0
  return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[1]) / 1e6
}

/** Begins to measure. @returns what tells the ms since then */
export function startOwnTime(): () => number {
  const [queuedBeforeMs, startedMs] = [queuedMs(), performance.now()]
  return () => performance.now() - startedMs - (queuedMs() - queuedBeforeMs)
}

/** A machine that is busy makes one try late, hardly three. */
const TRIES = 3

/** By the clock: of the first try that takes less than `goalMs`, or the least of all. */
export async function bestMs(goalMs: number, attempt: () => Promise<number>): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let n = 0; n < TRIES && best >= goalMs; n++) best = Math.min(best, await attempt())
  return best
}
