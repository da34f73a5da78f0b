import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { MAX_SLOT_READERS, SlotReaders } from '../../../src/store/slot-readers.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'
import type { ThreadInput } from './slot-reader-thread.ts'
import { blockOf, entryOf, hashOf, openStore } from './tools.ts'

afterEach(removeFolders)

test('without readers a slot is released at once', () => {
  const readers = new SlotReaders()
  let released = false
  readers.retire({ slots: [1] }, () => {
    released = true
  })
  expect(released).toBe(true)
})

test('a slot is released when the last of the readers has let go, in the order of the epochs', () => {
  const readers = new SlotReaders()
  const told: number[] = []
  const released: string[] = []
  const one = readers.join(({ epoch }) => told.push(epoch))
  readers.retire({ slots: [1] }, () => released.push('first'))
  const two = readers.join(({ epoch }) => told.push(-epoch))
  readers.retire({ slots: [2] }, () => released.push('second'))
  expect(told).toEqual([1, 2, -2])
  // The second joined after the first batch: it cannot know it.
  one.letGo(1)
  expect(released).toEqual(['first'])
  two.letGo(2)
  expect(released).toEqual(['first'])
  one.letGo(1)
  expect(released).toEqual(['first'])
  one.letGo(2)
  expect(released).toEqual(['first', 'second'])
})

test('nobody waits for a reader that is gone', () => {
  const readers = new SlotReaders()
  const released: number[] = []
  const one = readers.join(() => undefined)
  readers.retire({ slots: [5] }, () => released.push(5))
  expect(released).toEqual([])
  one.leave()
  expect(released).toEqual([5])
  one.letGo(1)
})

test('readers are bounded', () => {
  const readers = new SlotReaders()
  for (let index = 0; index < MAX_SLOT_READERS; index++) readers.join(() => undefined)
  expect(() => readers.join(() => undefined)).toThrow(withCode('LIMIT_EXCEEDED'))
})

test('the slot of an evicted block is not given out, nor its room, before a reader has let go', async () => {
  const store = await openStore(await temporaryFolder(), { quotaBytes: 2 * BLOCK_SIZE_BYTES })
  try {
    const { pool } = store
    await pool.putMany([entryOf(1), entryOf(2)])
    const epochs: number[] = []
    const reader = pool.readers.join(({ epoch }) => epochs.push(epoch))
    expect(await pool.evict([pool.find(hashOf(1))])).toBe(1)
    expect(pool.find(hashOf(1))).toBe(-1)
    await expect(pool.put(hashOf(3), blockOf(3))).rejects.toThrow(withCode('POOL_FULL'))
    reader.letGo(epochs.at(-1)!)
    expect(await pool.put(hashOf(3), blockOf(3))).toBe(0)
  } finally {
    await store.close()
  }
})

const BLOCKS = 60

const PATIENCE_MS = 120_000

/** A thread reads while blocks are evicted and others put into their slots, for so long and so often, or until a read was wrong. */
async function race(
  hasty: boolean,
  { atLeastMs, reads }: { atLeastMs: number; reads: number }
): Promise<{ reads: number; wrong: number }> {
  const store = await openStore(await temporaryFolder(), { quotaBytes: BLOCKS * BLOCK_SIZE_BYTES })
  const slots = new Int32Array(new SharedArrayBuffer(2 * BLOCKS * 4)).fill(-1)
  const counts = new Int32Array(new SharedArrayBuffer(12))
  const workerData: ThreadInput = {
    folder: join(store.folder, 'pool'),
    slots: slots.buffer as SharedArrayBuffer,
    counts: counts.buffer as SharedArrayBuffer,
    hasty
  }
  const { pool } = store
  const thread = new Worker(new URL('./slot-reader-thread.ts', import.meta.url), {
    workerData,
    execArgv: ['--disable-warning=ExperimentalWarning']
  })
  const ended = new Promise<void>((resolve, reject) => {
    thread.once('exit', () => resolve())
    thread.once('error', reject)
  })
  ended.catch(() => undefined)
  const reader = pool.readers.join(batch => thread.postMessage({ ...batch, slots: [] }))
  thread.on('message', (epoch: number) => reader.letGo(epoch))
  try {
    const startMs = performance.now()
    const elapsedMs = () => performance.now() - startMs
    const isOver = () => counts[1]! > 0 || (elapsedMs() > atLeastMs && counts[0]! > reads) || elapsedMs() > PATIENCE_MS
    let next = 0
    while (!isOver()) {
      // As many as there is room for, then everything goes, so that its segment is unlinked, too.
      for (let put = 0; pool.level.takenBlocks < pool.level.maxBlocks && put < 8; put++) {
        const number = next++ % slots.length
        Atomics.store(slots, number, await pool.put(hashOf(number), blockOf(number)))
      }
      await new Promise(resolve => setTimeout(resolve, 1))
      if (pool.usage.blocks < BLOCKS / 2) continue
      const going = [...slots.keys()].filter(number => slots[number]! >= 0)
      const gone = going.map(number => slots[number]!)
      for (const number of going) Atomics.store(slots, number, -1)
      await pool.evict(gone)
    }
  } finally {
    Atomics.store(counts, 2, 1)
    await Promise.race([ended, new Promise(resolve => setTimeout(resolve, 2000))])
    await thread.terminate()
    reader.leave()
    await store.close()
  }
  return { reads: counts[0]!, wrong: counts[1]! }
}

test('a thread that reads while blocks are evicted never reads another block', async () => {
  const { reads, wrong } = await race(false, { atLeastMs: 2000, reads: 100 })
  expect(wrong).toBe(0)
  expect(reads).toBeGreaterThan(100)
})

test('a thread that lets go too early does: the race is a real one', async () => {
  const { wrong } = await race(true, { atLeastMs: PATIENCE_MS, reads: 0 })
  expect(wrong).toBeGreaterThan(0)
})
