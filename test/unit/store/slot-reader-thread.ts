/**
 * A thread that reads blocks as a disk would: looks a slot up in shared memory, reads it from the segment file, checks
 * that it is the block it looked for. Between two reads, never in one, it lets go of what it is told of.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { SLOTS_PER_SEGMENT } from '../../../src/store/segment-files.ts'
import type { RetiredBatch } from '../../../src/store/slot-readers.ts'

export interface ThreadInput {
  /** Folder of the segments. */
  folder: string
  /** Of each block number its slot, or -1. */
  slots: SharedArrayBuffer
  /** [reads, wrong reads, stop] */
  counts: SharedArrayBuffer
  /** Answers before the read under way is done: what must not be. */
  hasty: boolean
}

/** How long a hasty read goes on after it has let go. */
const REUSE_MS = 20

const { folder, slots: slotsBuffer, counts: countsBuffer, hasty } = workerData as ThreadInput
const slots = new Int32Array(slotsBuffer)
const counts = new Int32Array(countsBuffer)
const files = new Map<number, number>()
const half = Buffer.alloc(8)

/** @returns whether there was something to let go of */
function letGo(): boolean {
  let wasTold = false
  for (let got = receiveMessageOnPort(parentPort!); got !== undefined; got = receiveMessageOnPort(parentPort!)) {
    const { epoch, segment } = got.message as RetiredBatch
    const fd = segment === undefined ? undefined : files.get(segment)
    if (fd !== undefined) {
      closeSync(fd)
      files.delete(segment!)
    }
    parentPort!.postMessage(epoch)
    wasTold = true
  }
  return wasTold
}

function fileOf(segment: number): number {
  const fd = files.get(segment) ?? openSync(join(folder, `${String(segment).padStart(5, '0')}.seg`), 'r')
  files.set(segment, fd)
  return fd
}

/** @returns whether there is what belongs there; a hasty reader may have closed the very file that it reads, which is as wrong */
function reads(fd: number, at: number, number: number): boolean {
  try {
    return readSync(fd, half, 0, 8, at) === 8 && half.readDoubleLE(0) === number + 0.5
  } catch (error) {
    if (hasty && (error as NodeJS.ErrnoException).code === 'EBADF') return false
    throw error
  }
}

for (let number = 0; Atomics.load(counts, 2) === 0; number = (number + 7) % slots.length) {
  letGo()
  const slot = Atomics.load(slots, number)
  if (slot < 0) continue
  const fd = fileOf(Math.floor(slot / SLOTS_PER_SEGMENT))
  const at = (slot % SLOTS_PER_SEGMENT) * BLOCK_SIZE_BYTES
  let right = true
  // A read takes a while: both ends of the block, and something in between.
  for (const place of [0, BLOCK_SIZE_BYTES - 8]) {
    let until = performance.now() + 0.5
    // What was let go of too early is used again soon, on a busy machine a little later.
    while (performance.now() < until) if (hasty && letGo()) until = performance.now() + REUSE_MS
    right &&= reads(fd, at + place, number)
  }
  Atomics.add(counts, 0, 1)
  if (!right) Atomics.add(counts, 1, 1)
}
parentPort!.close()
