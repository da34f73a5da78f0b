/**
 * Threads that serve disks read while the blocks that they read are evicted and others are put into their slots.
 */
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import type { SlotReaders } from '../../../src/store/slot-readers.ts'
import { removeFolders } from '../../tools/folders.ts'
import { clientOf, isRight, ServedDisks, threadOf } from './threads/served.ts'

afterEach(removeFolders)

const BLOCKS = 60
/** Two thirds of the image do not fit. */
const QUOTA_BLOCKS = 20
const BLOCKS_PER_READ = 2
/** A busy machine needs this long; a quiet one a second or two. */
const AT_MOST_MS = 25_000

interface Race {
  reads: number
  wrong: number
  fetched: number
}

/** Two disks in two threads, each read by two clients with several requests in flight; every byte is compared. */
async function race(isEnough: (race: Race) => boolean, readers?: (real: SlotReaders) => SlotReaders): Promise<Race> {
  const disks = await ServedDisks.open({ blocks: BLOCKS, quotaBlocks: QUOTA_BLOCKS })
  const result: Race = { reads: 0, wrong: 0, fetched: 0 }
  const { pool } = disks.store
  const shared = {
    directory: pool.directory,
    readers: readers?.(pool.readers) ?? pool.readers,
    readSync: pool.readSync.bind(pool)
  }
  try {
    const until = performance.now() + AT_MOST_MS
    const reader = async (socketPath: string) => {
      const client = await clientOf(socketPath)
      const readOn = async () => {
        while (performance.now() < until && !isEnough(result)) {
          const block = Math.floor(Math.random() * (BLOCKS - BLOCKS_PER_READ))
          const offset = block * BLOCK_SIZE_BYTES
          const bytes = await client.bytes(offset, BLOCKS_PER_READ * BLOCK_SIZE_BYTES)
          result.reads++
          result.fetched = disks.wanted.length
          if (!isRight(bytes, offset)) result.wrong++
        }
      }
      await Promise.all(Array.from({ length: 4 }, readOn))
      await client.disconnect()
    }
    const startThread = threadOf('./slow-disk-thread.ts')
    const served = await Promise.all(['a', 'b'].map(name => disks.serve({ name, startThread, pool: shared })))
    await Promise.all(served.flatMap(({ socketPath }) => [reader(socketPath), reader(socketPath)]))
  } finally {
    await disks.close()
  }
  return result
}

test('no reader ever sees another block than its own', async () => {
  // Most of what is read has to come first: the pool turns over many times.
  const enough = { reads: 100, fetched: 6 * QUOTA_BLOCKS }
  const { reads, wrong, fetched } = await race(now => now.reads >= enough.reads && now.fetched >= enough.fetched)
  expect(wrong).toBe(0)
  expect(reads).toBeGreaterThanOrEqual(enough.reads)
  expect(fetched).toBeGreaterThanOrEqual(enough.fetched)
})

test('a disk that lets go of slots before its reads are done does: the race is a real one', async () => {
  const hasty = (real: SlotReaders) =>
    ({
      join: told => {
        const handle = real.join(batch => {
          handle.letGo(batch.epoch)
          told(batch)
        })
        return { letGo: () => undefined, leave: handle.leave }
      }
    }) as Pick<SlotReaders, 'join'> as SlotReaders
  const { wrong } = await race(now => now.wrong > 0, hasty)
  expect(wrong).toBeGreaterThan(0)
})
