import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { RowanError } from '../../../src/errors.ts'
import { sha256 } from '../../../src/image/hash.ts'
import { PoolIntake } from '../../../src/store/pool-intake.ts'

const blockOf = (value: number) => {
  const block = Buffer.alloc(65_536, value)
  return { hash: sha256(block), block }
}
const turn = () => new Promise(resolve => setImmediate(resolve))

/** An intake over parts that remember what they were asked; a test ends the writes. */
function setUp({ maxBlocks = 100 } = {}) {
  const written: number[][] = []
  const freed: number[] = []
  const kept = new Map<string, number>()
  const writes: { end: () => void; fail: (error: Error) => void }[] = []
  let nextSlot = 0
  let usable = true
  let takenBytes = 0
  const intake = new PoolIntake(
    {
      entries: {
        add: async (blocks: { hash: Uint8Array; slot: number }[]) => {
          for (const { hash, slot } of blocks) kept.set(Buffer.from(hash).toString('hex'), slot)
        }
      },
      files: {
        write: (slot: number, blocks: Uint8Array[]) => {
          written.push(blocks.map((_, index) => slot + index))
          return new Promise<void>((resolve, reject) => writes.push({ end: resolve, fail: reject }))
        }
      },
      table: { find: (hash: Uint8Array) => kept.get(Buffer.from(hash).toString('hex')) ?? -1 },
      allocator: { take: () => nextSlot++, free: (slot: number) => freed.push(slot) },
      suspects: { clear: () => undefined },
      freeSpace: {
        take: async (bytes: number) => {
          takenBytes += bytes
        },
        settled: (bytes: number) => {
          takenBytes -= bytes
        }
      }
    } as never,
    {
      level: () => ({ takenBlocks: kept.size + intake.blocks, maxBlocks }),
      mustTakeWrites: () => {
        if (!usable) throw new RowanError('STORE_IO', 'the pool takes no more writes')
      },
      noted: work => work,
      stored: () => undefined
    }
  )
  const endWrites = async () => {
    await turn()
    for (const { end } of writes.splice(0)) end()
    await turn()
  }
  const breakDown = () => (usable = false)
  return { intake, written, freed, kept, writes, endWrites, breakDown, takenBytes: () => takenBytes }
}

test('blocks of one put lie in a row and are written in one go; those that are here are not written again', async () => {
  const { intake, written, endWrites } = setUp()
  const known: (readonly number[])[] = []
  const put = intake.putMany([blockOf(1), blockOf(2), blockOf(1)], slots => known.push(slots))
  await endWrites()
  expect(await put).toEqual([0, 1, 0])
  expect(known).toEqual([[0, 1, 0]])
  expect(written).toEqual([[0, 1]])
  expect(await intake.putMany([blockOf(2)])).toEqual([1])
  expect(written).toHaveLength(1)
})

test('a block that is on its way in is waited for, not written twice', async () => {
  const { intake, written, endWrites } = setUp()
  const order: string[] = []
  const first = intake.putMany([blockOf(1)]).then(() => order.push('first'))
  const second = intake.putMany([blockOf(1), blockOf(2)]).then(() => order.push('second'))
  await turn()
  expect(intake.blocks).toBe(2)
  expect([intake.isTaking(0), intake.isTaking(1), intake.isTaking(2)]).toEqual([true, true, false])
  expect(order).toEqual([])
  await endWrites()
  await Promise.all([first, second])
  expect(written.flat()).toEqual([0, 1])
  expect(intake.blocks).toBe(0)
})

test('where a write fails the slots are free again, and nobody is told that the block is here', async () => {
  const { intake, freed, kept, writes, takenBytes } = setUp()
  const put = intake.putMany([blockOf(1), blockOf(2)])
  await turn()
  expect(takenBytes()).toBe(2 * BLOCK_SIZE_BYTES)
  writes[0]!.fail(new RowanError('DISK_FULL', 'no space'))
  await expect(put).rejects.toMatchObject({ code: 'DISK_FULL' })
  expect(freed).toEqual([0, 1])
  expect(kept.size).toBe(0)
  await intake.settled()
  expect(intake.blocks).toBe(0)
  expect(takenBytes()).toBe(0)
})

test('where the quota is full whoever makes room is asked, and without room nothing has changed', async () => {
  const { intake, written, kept, endWrites } = setUp({ maxBlocks: 2 })
  const filling = intake.putMany([blockOf(1), blockOf(2)])
  await endWrites()
  await filling
  await expect(intake.putMany([blockOf(3)])).rejects.toMatchObject({ code: 'POOL_FULL' })
  let asked = 0
  intake.useRoomMaker({
    makeRoom: async () => {
      asked++
      kept.delete([...kept.keys()][0]!)
      return true
    },
    slotsTaken: () => undefined
  } as never)
  const put = intake.putMany([blockOf(3)])
  await endWrites()
  expect(await put).toEqual([2])
  expect(asked).toBe(1)
  expect(written.flat()).toEqual([0, 1, 2])
})

test('a pool that takes no more writes takes none', async () => {
  const { intake, written, breakDown } = setUp()
  breakDown()
  await expect(intake.putMany([blockOf(1)])).rejects.toMatchObject({ code: 'STORE_IO' })
  expect(written).toEqual([])
})

test('a put whose blocks are still being written is not over, though another that it waits for has failed', async () => {
  const { intake, writes } = setUp()
  const other = intake.putMany([blockOf(1)]).catch(() => 'failed')
  await turn()
  let isOver = false
  const put = intake.putMany([blockOf(1), blockOf(2)]).catch((error: Error) => error.message)
  void put.then(() => {
    isOver = true
  })
  await turn()
  const [first, second] = writes
  first!.fail(new Error('no'))
  expect(await other).toBe('failed')
  await turn()
  expect(isOver).toBe(false)
  second!.end()
  expect(await put).toBe('no')
})
