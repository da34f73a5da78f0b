/**
 * The thread of a machine's disk, put together: see machine/disk-worker.ts.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { DiskThreadInput } from '../machine/disk-messages.ts'
import { DiskWorker } from '../machine/disk-worker.ts'
import { systemClock } from './system.ts'

const { log } = new DiskWorker(parentPort!, workerData as DiskThreadInput, { clock: systemClock })

// As in the main thread: a promise that somebody forgot is said, and the disk goes on.
process.on('unhandledRejection', error => log.warn('a promise of a disk was forgotten', { error }))
