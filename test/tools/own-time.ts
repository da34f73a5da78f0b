/**
 * The time that something takes by itself, on a machine that is busy with other things as well.
 *
 * A clock also counts while this process would have gone on, but others had the processor. Linux counts that for each thread
 * (`schedstat`, Documentation/scheduler/sched-stats.rst: nanoseconds spent waiting on a run queue), so it can be taken off. What the
 * process waits for by itself stays in: disks, lines, its own timers. Elsewhere the clock's time is all there is.
 */
import { readdirSync, readFileSync } from 'node:fs'

/** How long the threads of a process have waited for a processor so far, in ms; threads that have ended are not in it. */
function queuedMs(pid: number): number {
  if (process.platform !== 'linux') return 0
  const tasks = `/proc/${pid}/task`
  let nanoseconds = 0
  for (const task of readdirSync(tasks)) {
    try {
      nanoseconds += Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[1])
    } catch {
      // It has just ended.
    }
  }
  return nanoseconds / 1e6
}

/** Begins to measure. @returns what tells for how many ms since then these processes, together, have waited for a processor */
export function startQueuedTime(pids: readonly number[]): () => number {
  const before = pids.map(queuedMs)
  return () => pids.reduce((sum, pid, n) => sum + Math.max(0, queuedMs(pid) - before[n]!), 0)
}

/** Begins to measure. @returns what tells the ms since then; never less than this thread has used of a processor */
export function startOwnTime(): () => number {
  const [queued, cpuBefore, startedMs] = [startQueuedTime([process.pid]), process.threadCpuUsage(), performance.now()]
  return () => {
    const elapsedMs = performance.now() - startedMs
    const { user, system } = process.threadCpuUsage(cpuBefore)
    return Math.max(elapsedMs - queued(), (user + system) / 1000)
  }
}
