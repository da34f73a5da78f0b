/**
 * Starts the thread of a machine's disk; disk-thread-main.ts is what runs in it.
 */
import { Worker } from 'node:worker_threads'
import type { DiskThreadInput } from '../machine/disk-messages.ts'
import { type MemoryCounters, newCounter, takeOff } from '../nbd/shared-memory.ts'

/**
 * Of the thread's own objects; buffers and the maps of layers lie outside. What a disk needs is a few MB: this ends one
 * that runs away before it takes the whole peer with it.
 */
const MAX_HEAP_MB = 256
/**
 * Of the objects that live briefly. Node makes 64 KiB of memory for each piece that a socket gives, outside of the heap, which
 * is free only when its small object is collected. In a larger space that takes so long that V8 finds the memory outside too much
 * and marks the whole heap, 25 times a second while a guest writes; in this one it was once or twice, and a write took a fifth less.
 * `bin/rowan` says the same for all threads, and what it says wins; this is for whoever starts Node otherwise.
 */
const MAX_YOUNG_HEAP_MB = 2

/** A disk's input, where its thread keeps its compiled code, and what its buffers are counted with. */
export type DiskThreadData = DiskThreadInput & { compiledFolder: string | undefined; memory: MemoryCounters }

/**
 * @param options.compiledFolder - of compiled code, with which a thread is there in half the time; none if absent
 * @param options.allMemory - counts what the buffers of all disks take; absent: there is no other
 */
export function startDiskThread(
  input: DiskThreadInput,
  { compiledFolder, allMemory = newCounter() }: { compiledFolder?: string; allMemory?: Int32Array } = {}
): Worker {
  const memory = { all: allMemory, own: newCounter() }
  const worker = new Worker(new URL('./disk-thread-main.ts', import.meta.url), {
    workerData: { ...input, compiledFolder, memory } satisfies DiskThreadData,
    name: `rowan-disk-${input.settings.name}`.slice(0, 64),
    execArgv: ['--disable-warning=ExperimentalWarning'],
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, maxYoungGenerationSizeMb: MAX_YOUNG_HEAP_MB }
  })
  worker.once('exit', () => takeOff(memory))
  return worker
}
