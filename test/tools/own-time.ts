/**
 * The time that something takes by itself, on a machine that is busy with other things as well.
 *
 * A clock also counts while this process would have gone on, but others had the processor. Linux counts that for each thread
 * (`schedstat`, Documentation/scheduler/sched-stats.rst: nanoseconds spent waiting on a run queue), so it can be taken off. What the
 * process waits for by itself stays in: disks, lines, its own timers. Elsewhere the clock's time is all there is.
 */
import { readdirSync, readFileSync } from 'node:fs'

const TASKS = '/proc/self/task'

/** How long the threads of this process have waited for a processor so far, in ms; threads that have ended are not in it. */
function queuedMs(): number {
  if (process.platform !== 'linux') return 0
  let nanoseconds = 0
  for (const task of readdirSync(TASKS)) {
    try {
      nanoseconds += Number(readFileSync(`${TASKS}/${task}/schedstat`, 'utf8').split(' ')[1])
    } catch {
      // It has just ended.
    }
  }
  return nanoseconds / 1e6
}

/** Begins to measure. @returns what tells the ms since then; never less than this thread has used of a processor */
export function startOwnTime(): () => number {
  const [queuedBeforeMs, cpuBefore, startedMs] = [queuedMs(), process.threadCpuUsage(), performance.now()]
  return () => {
    const elapsedMs = performance.now() - startedMs
    const { user, system } = process.threadCpuUsage(cpuBefore)
    return Math.max(elapsedMs - Math.max(0, queuedMs() - queuedBeforeMs), (user + system) / 1000)
  }
}
