import { open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { sha256 } from '../../../src/image/hash.ts'
import { bytesCodec, Catalog } from '../../../src/store/catalog.ts'
import type { PoolSettings } from '../../../src/store/pool.ts'
import { SLOTS_PER_SEGMENT } from '../../../src/store/segment-layout.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'
import {
  blockOf,
  canMount,
  copyAsAfterCrash,
  entryOf,
  hashOf,
  mountSmallDisk,
  openStore,
  type TestStore,
  unmountSmallDisks
} from './tools.ts'

const stores = new Set<TestStore>()

async function store(folder?: string, settings: Partial<PoolSettings> = {}): Promise<TestStore> {
  const opened = await openStore(folder ?? (await temporaryFolder()), settings)
  stores.add(opened)
  return opened
}

async function close(opened: TestStore): Promise<void> {
  stores.delete(opened)
  await opened.close()
}

/** What is found after the process died in the middle of its work. */
async function afterCrash(crashed: TestStore): Promise<TestStore> {
  const folder = await temporaryFolder()
  await copyAsAfterCrash(crashed, folder)
  return store(folder)
}

afterEach(async () => {
  try {
    for (const opened of stores) await close(opened)
  } finally {
    unmountSmallDisks()
    await removeFolders()
  }
})

const entries = (count: number, first = 0) => Array.from({ length: count }, (_, index) => entryOf(first + index))

function bytesAt(opened: TestStore, slot: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_SIZE_BYTES)
  opened.pool.readSync(slot, 0, bytes)
  return bytes
}

/** Changes one byte of the block in `slot` behind the pool's back. */
async function rot(folder: string, slot: number): Promise<void> {
  const file = await open(join(folder, 'pool', '00000.seg'), 'r+')
  await file.write(Buffer.of(0xff), 0, 1, slot * BLOCK_SIZE_BYTES + 1234)
  await file.close()
}

test('a block that was put is found, and read back', async () => {
  const opened = await store()
  const { pool } = opened
  expect(pool.find(hashOf(1))).toBe(-1)
  const slot = await pool.put(hashOf(1), blockOf(1))
  expect(slot).toBeGreaterThanOrEqual(0)
  expect(pool.find(hashOf(1))).toBe(slot)
  expect(pool.hashOf(slot)).toEqual(new Uint8Array(hashOf(1)))
  expect(bytesAt(opened, slot).equals(blockOf(1))).toBe(true)
  expect(await pool.readVerified(slot, hashOf(1))).toEqual(blockOf(1))
  expect(pool.usage).toEqual({ blocks: 1, bytes: BLOCK_SIZE_BYTES })
})

test('a part of a block is read into a part of a buffer', async () => {
  const { pool } = await store()
  await pool.put(hashOf(1), blockOf(1))
  const slot = await pool.put(hashOf(2), blockOf(2))
  const target = Buffer.alloc(100, 0xee)
  pool.readSync(slot, BLOCK_SIZE_BYTES - 40, target.subarray(10, 50))
  expect(target.subarray(10, 50).equals(blockOf(2).subarray(-40))).toBe(true)
  expect(target.subarray(0, 10).equals(Buffer.alloc(10, 0xee))).toBe(true)
  expect(target.subarray(50).equals(Buffer.alloc(50, 0xee))).toBe(true)
  expect(() => pool.readSync(slot, -1, Buffer.alloc(1))).toThrow(withCode('INTERNAL'))
})

test('blocks in slots that follow each other are read at once, but never out of a segment', async () => {
  const { pool } = await store()
  const first = await pool.put(hashOf(1), blockOf(1))
  const second = await pool.put(hashOf(2), blockOf(2))
  expect(second).toBe(first + 1)
  const target = Buffer.alloc(40 + BLOCK_SIZE_BYTES)
  pool.readSync(first, BLOCK_SIZE_BYTES - 40, target)
  expect(target.equals(Buffer.concat([blockOf(1).subarray(-40), blockOf(2)]))).toBe(true)
  const tooLong = Buffer.alloc(SLOTS_PER_SEGMENT * BLOCK_SIZE_BYTES)
  expect(() => pool.readSync(second, 0, tooLong)).toThrow(withCode('INTERNAL'))
})

test('many blocks get slots in their order, equal ones the same', async () => {
  const opened = await store()
  await opened.pool.put(hashOf(3), blockOf(3))
  const numbers = [1, 2, 3, 2, 4, 1]
  const slots = await opened.pool.putMany(numbers.map(entryOf))
  expect(new Set(slots).size).toBe(4)
  for (const [index, number] of numbers.entries()) {
    expect(slots[index]).toBe(opened.pool.find(hashOf(number)))
    expect(bytesAt(opened, slots[index]!).equals(blockOf(number))).toBe(true)
  }
  expect(opened.pool.usage.blocks).toBe(4)
})

test('puts of one block at once store it once, and are all done when it is stored', async () => {
  const opened = await store()
  const { pool } = opened
  const puts = Array.from({ length: 20 }, (_, index) =>
    index % 2 === 0 ? pool.put(hashOf(7), blockOf(7)) : pool.putMany([entryOf(7), entryOf(100 + index)])
  )
  const slots = (await Promise.all(puts)).map(answer => (typeof answer === 'number' ? answer : answer[0]))
  expect(new Set(slots).size).toBe(1)
  expect(bytesAt(opened, slots[0]!).equals(blockOf(7))).toBe(true)
  expect(pool.usage.blocks).toBe(11)
  const { size } = await stat(join(opened.folder, 'pool', '00000.seg'))
  expect(size).toBe(11 * BLOCK_SIZE_BYTES)
})

test('a block cannot be found before its bytes and its entry are written', async () => {
  const { pool } = await store()
  const putting = pool.putMany(entries(64))
  expect(pool.find(hashOf(0))).toBe(-1)
  await putting
  expect(pool.find(hashOf(0))).not.toBe(-1)
})

test('the next block goes to the lowest free slot', async () => {
  const { pool } = await store()
  const slots = await pool.putMany(entries(40))
  expect(slots).toEqual(Array.from({ length: 40 }, (_, index) => index))
  for (const number of [30, 5, 6]) pool.reclaim(await pool.drop(hashOf(number)))
  expect(await pool.putMany(entries(4, 100))).toEqual([5, 6, 30, 40])
})

test('what is no block is refused', async () => {
  const { pool } = await store()
  await expect(pool.put(hashOf(1), blockOf(1).subarray(1))).rejects.toThrow(withCode('BLOCK_INVALID'))
  await expect(pool.put(hashOf(1).subarray(1), blockOf(1))).rejects.toThrow(withCode('BLOCK_INVALID'))
  expect(pool.usage.blocks).toBe(0)
})

test('the quota is kept, with an error that says what it is', async () => {
  const { pool } = await store(undefined, { quotaBytes: 10 * BLOCK_SIZE_BYTES + 5 })
  await pool.putMany(entries(8))
  await expect(pool.putMany(entries(3, 50))).rejects.toThrow(withCode('POOL_FULL'))
  await expect(pool.putMany(entries(3, 50))).rejects.toThrow(/10/)
  expect(pool.find(hashOf(50))).toBe(-1)
  await pool.putMany([...entries(8), ...entries(2, 50)]) // known ones need no room
  await expect(pool.put(hashOf(60), blockOf(60))).rejects.toThrow(withCode('POOL_FULL'))
  // A dropped block's slot counts until it may be used again.
  const slot = await pool.drop(hashOf(0))
  await expect(pool.put(hashOf(60), blockOf(60))).rejects.toThrow(withCode('POOL_FULL'))
  pool.reclaim(slot)
  expect(await pool.put(hashOf(60), blockOf(60))).toBe(slot)
})

test('the quota holds for puts at once', async () => {
  const { pool } = await store(undefined, { quotaBytes: 10 * BLOCK_SIZE_BYTES })
  const outcomes = await Promise.allSettled(entries(30).map(({ hash, block }) => pool.put(hash, block)))
  expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBe(10)
  expect(pool.usage.blocks).toBe(10)
})

test('blocks on their way in are bounded', async () => {
  const { pool } = await store()
  const block = blockOf(0)
  const many = Array.from({ length: 16_385 }, (_, index) => ({ hash: sha256(Buffer.from(String(index))), block }))
  await expect(pool.putMany(many)).rejects.toThrow(withCode('LIMIT_EXCEEDED'))
  expect(pool.usage.blocks).toBe(0)
})

test('a pool that was closed finds its blocks again, and trusts them', async () => {
  const first = await store()
  const slots = await first.pool.putMany(entries(100))
  await close(first)
  const again = await store(first.folder)
  expect(again.pool.usage.blocks).toBe(100)
  for (let number = 0; number < 100; number++) {
    expect(again.pool.find(hashOf(number))).toBe(slots[number])
    expect(again.pool.isSuspect(slots[number]!)).toBe(false)
  }
  expect(bytesAt(again, slots[7]!).equals(blockOf(7))).toBe(true)
})

test('a closed pool takes nothing more', async () => {
  const opened = await store()
  await opened.pool.close()
  await expect(opened.pool.put(hashOf(1), blockOf(1))).rejects.toThrow(withCode('STORE_IO'))
})

test('after a crash every block is suspect until it was hashed', async () => {
  const crashed = await store()
  await crashed.pool.putMany(entries(10))
  const { pool } = await afterCrash(crashed)
  expect(pool.usage.blocks).toBe(10)
  for (let slot = 0; slot < 10; slot++) expect(pool.isSuspect(slot)).toBe(true)
  expect(pool.confirm(3, hashOf(3))).toBe(true)
  expect(pool.isSuspect(3)).toBe(false)
  expect(await pool.readVerified(4, hashOf(4))).toBeDefined()
  expect(pool.isSuspect(4)).toBe(false)
  await pool.put(hashOf(20), blockOf(20))
  expect(pool.isSuspect(pool.find(hashOf(20)))).toBe(false)
})

test('what is still suspect when a pool is closed, is suspect when it is opened again', async () => {
  const crashed = await store()
  await crashed.pool.putMany(entries(10))
  const second = await afterCrash(crashed)
  second.pool.confirm(3, hashOf(3))
  await close(second)
  const third = await store(second.folder)
  const suspects = Array.from({ length: 10 }, (_, slot) => slot).filter(slot => third.pool.isSuspect(slot))
  expect(suspects).toEqual([0, 1, 2, 4, 5, 6, 7, 8, 9])
  for (const slot of suspects) third.pool.confirm(slot, hashOf(slot))
  await close(third)
  const fourth = await store(third.folder)
  for (let slot = 0; slot < 10; slot++) expect(fourth.pool.isSuspect(slot)).toBe(false)
})

test('a new block in a slot that was suspect is not', async () => {
  const crashed = await store()
  await crashed.pool.putMany(entries(10))
  const second = await afterCrash(crashed)
  await close(second)
  await truncate(join(second.folder, 'pool', '00000.seg'), 6 * BLOCK_SIZE_BYTES)
  const { pool } = await store(second.folder)
  expect(await pool.put(hashOf(20), blockOf(20))).toBe(6)
  expect([5, 6].map(slot => pool.isSuspect(slot))).toEqual([true, false])
})

test('a rotten block is dropped, said so, and stays dropped', async () => {
  const crashed = await store()
  await crashed.pool.putMany(entries(10))
  const second = await afterCrash(crashed)
  await rot(second.folder, 3)
  await rot(second.folder, 4)
  const dropped: number[] = []
  second.pool.onDropped(slots => dropped.push(...slots.keys()))
  expect(second.pool.confirm(3, hashOf(3))).toBe(false)
  expect(await second.pool.readVerified(4, hashOf(4))).toBeUndefined()
  expect(dropped).toEqual([3, 4])
  expect(second.log.lines.filter(line => line.startsWith('warn')).length).toBe(2)
  for (const number of [3, 4]) expect(second.pool.find(hashOf(number))).toBe(-1)
  await close(second)
  const third = await store(second.folder)
  for (const number of [3, 4]) expect(third.pool.find(hashOf(number))).toBe(-1)
  expect(third.pool.usage.blocks).toBe(8)
})

test('a slot with another block than the one that is asked for drops nothing', async () => {
  const { pool } = await store()
  await pool.putMany(entries(3))
  expect(pool.confirm(1, hashOf(2))).toBe(false)
  expect(await pool.readVerified(1, hashOf(2))).toBeUndefined()
  for (const number of [0, 1, 2]) expect(pool.find(hashOf(number))).toBe(number)
})

test('a dropped slot is not given out again before it is reclaimed, or the pool is opened again', async () => {
  const first = await store()
  await first.pool.putMany(entries(3))
  expect(await first.pool.drop(hashOf(1))).toBe(1)
  expect(await first.pool.drop(hashOf(1))).toBe(-1)
  expect(first.pool.find(hashOf(1))).toBe(-1)
  expect(await first.pool.put(hashOf(5), blockOf(5))).toBe(3)
  first.pool.reclaim(0) // holds a block: nothing happens
  expect(await first.pool.put(hashOf(6), blockOf(6))).toBe(4)
  await close(first)
  const again = await store(first.folder)
  expect(await again.pool.put(hashOf(7), blockOf(7))).toBe(1)
})

test('entries beyond the end of a segment that was cut short are dropped', async () => {
  const first = await store()
  await first.pool.putMany(entries(10))
  await close(first)
  await truncate(join(first.folder, 'pool', '00000.seg'), 6 * BLOCK_SIZE_BYTES + 100)
  const again = await store(first.folder)
  expect(again.pool.usage.blocks).toBe(6)
  expect(again.pool.find(hashOf(6))).toBe(-1)
  expect(again.log.lines.some(line => line.startsWith('warn'))).toBe(true)
  expect(await again.pool.put(hashOf(6), blockOf(6))).toBe(6)
})

test('a segment that vanishes while the pool is open is STORE_IO with its name', async () => {
  const opened = await store()
  await opened.pool.putMany(entries(2))
  await truncate(join(opened.folder, 'pool', '00000.seg'), 0)
  expect(() => opened.pool.readSync(0, 0, Buffer.alloc(512))).toThrow(withCode('STORE_IO'))
  expect(() => opened.pool.readSync(0, 0, Buffer.alloc(512))).toThrow(/00000\.seg/)
  await expect(opened.pool.readVerified(0, hashOf(0))).rejects.toThrow(withCode('STORE_IO'))
  expect(opened.pool.confirm(0, hashOf(0))).toBe(false)
})

test('without its table a pool is made again from its segments', async () => {
  const first = await store()
  await first.pool.putMany(entries(20))
  await first.pool.drop(hashOf(4))
  await close(first)
  await rm(join(first.folder, 'catalog'), { recursive: true })
  const again = await store(first.folder)
  for (let number = 0; number < 20; number++) {
    expect(again.pool.find(hashOf(number)), `block ${number}`).toBe(number)
    expect(again.pool.isSuspect(number)).toBe(false)
  }
  await close(again)
  const third = await store(first.folder)
  expect(third.pool.usage.blocks).toBe(20)
})

test('making a pool again leaves out holes and what is there twice', async () => {
  const first = await store()
  await first.pool.putMany(entries(4))
  await close(first)
  const file = await open(join(first.folder, 'pool', '00000.seg'), 'r+')
  await file.write(Buffer.alloc(BLOCK_SIZE_BYTES), 0, BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES)
  await file.write(blockOf(0), 0, BLOCK_SIZE_BYTES, 2 * BLOCK_SIZE_BYTES)
  await file.close()
  await rm(join(first.folder, 'catalog'), { recursive: true })
  const { pool } = await store(first.folder)
  expect(pool.usage.blocks).toBe(2)
  expect(await pool.putMany(entries(2, 50))).toEqual([1, 2])
})

test('after a repair of the catalog the pool has every block, whatever the table lost', async () => {
  const first = await store()
  await first.pool.putMany(entries(20))
  await close(first)
  const catalog = await Catalog.open(join(first.folder, 'catalog'))
  await catalog.table('pool', bytesCodec).delete('0000000')
  await catalog.close()
  await Catalog.repair(join(first.folder, 'catalog'))
  const { pool } = await store(first.folder)
  expect(pool.usage.blocks).toBe(20)
  expect(pool.find(hashOf(5))).toBe(5)
})

test.each([
  ['a key that is none', 'rubbish', Buffer.alloc(34, 1)],
  ['a slot beyond the last', '8000000', Buffer.of(1, 0, ...Buffer.alloc(32))],
  ['a value that is cut short', '0000001', Buffer.of(1, 0, ...Buffer.alloc(31))],
  ['a value that is too long', '0000001', Buffer.of(1, 0, ...Buffer.alloc(33))],
  ['a value without slots', '0000001', Buffer.of(0, 0)],
  ['a value without bytes', '0000001', Buffer.alloc(0)]
])('%s in its table is CATALOG_CORRUPT', async (_what, key, value) => {
  const first = await store()
  await first.pool.putMany(entries(3))
  await first.catalog.table('pool', bytesCodec).put(key, value)
  await close(first)
  await expect(openStore(first.folder)).rejects.toThrow(withCode('CATALOG_CORRUPT'))
  await Catalog.repair(join(first.folder, 'catalog'))
  expect((await store(first.folder)).pool.usage.blocks).toBe(3)
})

test('what was synced is on disk, and puts may go on meanwhile', async () => {
  const opened = await store()
  const puts = entries(200).map(({ hash, block }) => opened.pool.put(hash, block))
  const syncs = [opened.pool.sync(), opened.pool.sync()]
  puts.push(opened.pool.put(hashOf(500), blockOf(500)))
  await Promise.all([...puts, ...syncs])
  await opened.pool.sync()
  expect((await afterCrash(opened)).pool.usage.blocks).toBe(201)
})

test('a folder that cannot be one is HOME_UNUSABLE', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'pool'), 'a file')
  await expect(openStore(folder)).rejects.toThrow(withCode('HOME_UNUSABLE'))
})

test.skipIf(!canMount)(
  'a full disk refuses blocks, and nothing that was kept is lost (needs to mount a tmpfs)',
  async () => {
    const disk = mountSmallDisk(16)
    const opened = await store(disk)
    await opened.pool.putMany(entries(64))
    // 8 MiB more do not fit beside the catalog: the write breaks off in the middle.
    await writeFile(join(disk, 'filler'), Buffer.alloc(5 * 1024 * 1024))
    await expect(opened.pool.putMany(entries(128, 1000))).rejects.toThrow(withCode('DISK_FULL'))
    expect(opened.pool.usage.blocks).toBe(64)
    for (const number of [1000, 1050, 1127]) expect(opened.pool.find(hashOf(number))).toBe(-1)
    for (let number = 0; number < 64; number++) expect(bytesAt(opened, number).equals(blockOf(number))).toBe(true)
    const singles = await Promise.allSettled(entries(128, 2000).map(({ hash, block }) => opened.pool.put(hash, block)))
    const failed = singles.filter(({ status }) => status === 'rejected')
    expect(failed.length).toBeGreaterThan(0)
    for (const { reason } of failed as PromiseRejectedResult[]) expect(reason).toEqual(withCode('DISK_FULL'))
    for (const [index, { status }] of singles.entries()) {
      if (status === 'rejected') continue
      const slot = opened.pool.find(hashOf(2000 + index))
      expect(bytesAt(opened, slot).equals(blockOf(2000 + index)), `block ${2000 + index}`).toBe(true)
    }
    await rm(join(disk, 'filler'))
    const slots = await opened.pool.putMany(entries(32, 1000))
    expect(new Set(slots).size).toBe(32)
    const before = opened.pool.usage.blocks
    expect(before).toBe(64 + 32 + singles.length - failed.length)
    // No slot was lost.
    expect(Math.max(...slots)).toBe(before - 1)
    await close(opened)
    const again = await store(disk)
    expect(again.pool.usage.blocks).toBe(before)
    for (const [index, slot] of slots.entries()) expect(again.pool.confirm(slot, hashOf(1000 + index))).toBe(true)
  }
)

test.skipIf(!canMount)('nothing is trusted after an entry could not be written (needs to mount a tmpfs)', async () => {
  const disk = mountSmallDisk(8)
  const opened = await store(disk)
  await opened.pool.putMany(entries(4))
  // Room for a block, but none that the catalog would begin to write in; enough operations to make it look.
  await writeFile(join(disk, 'filler'), Buffer.alloc(7 * 1024 * 1024))
  const filler = opened.catalog.table('filler', bytesCodec)
  const operations = Array.from({ length: 1025 }, (_, index) => filler.deleteOp(String(index)))
  await expect(opened.catalog.write(operations)).rejects.toThrow(withCode('DISK_FULL'))
  await expect(opened.pool.put(hashOf(9), blockOf(9))).rejects.toThrow(withCode('DISK_FULL'))
  await rm(join(disk, 'filler'))
  await close(opened)
  expect(opened.log.lines).toContain('warn the pool is not marked as closed')
  const { pool } = await store(disk)
  expect([0, 1, 2, 3].map(slot => pool.isSuspect(slot))).toEqual([true, true, true, true])
  expect(pool.find(hashOf(9))).toBe(-1)
})

test.skipIf(!canMount)('as much of the disk stays free where many put at once (needs to mount a tmpfs)', async () => {
  const disk = mountSmallDisk(16)
  const { pool } = await store(disk, { minFreeBytes: 8 * 1024 * 1024 })
  const entries = (group: number) =>
    Array.from({ length: 16 }, (_, n) => ({ hash: hashOf(group * 16 + n), block: blockOf(group * 16 + n) }))
  const puts = await Promise.allSettled(Array.from({ length: 32 }, (_, group) => pool.putMany(entries(group))))
  const refused = puts.filter(put => put.status === 'rejected')
  expect(refused.every(({ reason }) => reason.code === 'DISK_FULL')).toBe(true)
  expect(pool.level.takenBlocks).toBeLessThanOrEqual(128)
  // What was refused took nothing: one by one, more fit.
  for (let group = 0; group < 32; group++) await pool.putMany(entries(group)).catch(() => undefined)
  expect(pool.level.takenBlocks).toBeGreaterThan(96)
  expect(pool.level.takenBlocks).toBeLessThanOrEqual(128)
})

test.skipIf(!canMount)('some of the disk stays free (needs to mount a tmpfs)', async () => {
  const disk = mountSmallDisk(16)
  const { pool } = await store(disk, { minFreeBytes: 8 * 1024 * 1024 })
  let kept = 0
  const fill = async () => {
    for (;;) {
      await pool.put(hashOf(kept), blockOf(kept))
      kept++
    }
  }
  await expect(fill()).rejects.toThrow(withCode('DISK_FULL'))
  expect(kept).toBeGreaterThan(100)
  expect(kept).toBeLessThanOrEqual(128)
  expect(await readdir(join(disk, 'pool'))).toEqual(['00000.seg'])
})
