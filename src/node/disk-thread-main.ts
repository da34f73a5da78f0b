/**
 * The thread of a machine's disk, put together: see machine/disk-worker.ts.
 *
 * All code that it needs is imported after the compile cache was switched on.
 */
import { enableCompileCache, flushCompileCache } from 'node:module'
import { parentPort, workerData } from 'node:worker_threads'
import type { DiskThreadData } from './disk-thread.ts'

/** The thread may be ended at any time, so what was compiled is written down early, and not in the way of its start. */
const FLUSH_AFTER_MS = 5_000

const { compiledFolder, memory, ...input } = workerData as DiskThreadData
if (compiledFolder !== undefined) {
  enableCompileCache(compiledFolder)
  setTimeout(flushCompileCache, FLUSH_AFTER_MS).unref()
}
const { DiskWorker } = await import('../machine/disk-worker.ts')
const { SharedMemory } = await import('../nbd/shared-memory.ts')
const { systemClock } = await import('./system.ts')

const { log } = new DiskWorker(parentPort!, input, { clock: systemClock, memory: new SharedMemory(memory) })

// As in the main thread: a promise that somebody forgot is said, and the disk goes on.
process.on('unhandledRejection', error => log.warn('a promise of a disk was forgotten', { error }))
