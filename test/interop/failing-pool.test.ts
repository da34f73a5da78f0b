/**
 * The pool on a disk that refuses to write for a while (failing-disk.ts): a block that is only in memory may not be taken for one that is
 * on the disk, now or after a restart.
 */
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { Catalog } from '../../src/store/catalog.ts'
import { Pool } from '../../src/store/pool.ts'
import { FAILING_DISK_TOOLS, type FailingDisk, withFailingDisk } from '../tools/failing-disk.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { fuseCanBeHad, needTools } from '../tools/need.ts'
import { endProcesses, start } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'
import { blockOf, entryOf, hashOf } from '../unit/store/tools.ts'

const CHILD = join(import.meta.dirname, 'pool-child.ts')
/** As the system says it. */
const CODE = { EIO: 'STORE_IO', ENOSPC: 'DISK_FULL' }
const log = { debug() {}, info() {}, warn() {} }

interface OpenPool {
  pool: Pool
  close(): Promise<void>
}

const opened = new Set<OpenPool>()

afterEach(endProcesses)
afterAll(removeFolders)

const describeDisk = needTools([...FAILING_DISK_TOOLS])

describeDisk('a host’s disk that refuses to write', () => {
  const errors = test.skipIf(!fuseCanBeHad()).each<['EIO' | 'ENOSPC']>([['ENOSPC'], ['EIO']])

  errors('the pool keeps no block of which %s says that it may not be there', error =>
    withPool(error, async ({ open, refuse, accept, forget }) => {
      const first = await open()
      await first.pool.putMany([entryOf(1), entryOf(2)])
      await first.pool.sync()

      await refuse()
      await first.pool.putMany([entryOf(3)])
      await expect(first.pool.sync()).rejects.toMatchObject({ code: CODE[error] })
      expect(first.pool.find(hashOf(3))).toBe(-1)
      await expect(first.pool.putMany([entryOf(4)])).rejects.toMatchObject({ code: CODE[error] })
      expect(read(first.pool, 2)).toEqual(blockOf(2))
      await accept()
      await expect(first.close()).rejects.toMatchObject({ code: CODE[error] })

      const second = await open()
      expect(second.pool.find(hashOf(3))).toBe(-1)
      expect(second.pool.confirm(second.pool.find(hashOf(1)), hashOf(1))).toBe(true)
      await second.pool.putMany([entryOf(3)])
      await second.close()

      await forget()
      const third = await open()
      expect([1, 2, 3].map(number => third.pool.isSuspect(third.pool.find(hashOf(number))))).toEqual([
        false,
        true,
        false
      ])
      for (const number of [1, 2, 3]) expect(read(third.pool, number)).toEqual(blockOf(number))
      await third.close()
    })
  )

  errors('what a killed pool could not write for %s is trusted only once it is on the disk', error =>
    withPool(error, async ({ folder, catalog, open, refuse, accept, writeBack, forget }) => {
      const setUp = await open()
      await setUp.pool.putMany([entryOf(1)])
      await setUp.close()

      await refuse()
      const child = start(process.execPath, [CHILD, join(folder, 'pool'), catalog, '2', '8'])
      await waitUntil('the blocks to be put', () => child.stdout.includes('put'))
      await writeBack(join(folder, 'pool', '00000.seg'))
      child.kill('SIGKILL')
      await child.exited
      await accept()

      const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9]
      const second = await open()
      // By what is left of them in the cache, if anything is.
      for (const number of numbers) second.pool.confirm(second.pool.find(hashOf(number)), hashOf(number))
      await expect(second.close()).rejects.toMatchObject({ code: CODE[error] })

      const third = await open()
      const isHere = (number: number) => third.pool.find(hashOf(number)) !== -1
      for (const number of numbers.filter(isHere)) third.pool.confirm(third.pool.find(hashOf(number)), hashOf(number))
      expect(numbers.filter(isHere)).toEqual([1])
      await third.pool.putMany(numbers.map(entryOf))
      await third.close()

      await forget()
      const fourth = await open()
      for (const number of numbers) {
        expect(fourth.pool.isSuspect(fourth.pool.find(hashOf(number)))).toBe(false)
        expect(read(fourth.pool, number).equals(blockOf(number)), `block ${number}`).toBe(true)
      }
      await fourth.close()
    })
  )
})

function read(pool: Pool, number: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_SIZE_BYTES)
  pool.readSync(pool.find(hashOf(number)), 0, bytes)
  return bytes
}

/** A pool on the failing disk; its catalog is on a good one. */
async function withPool(
  error: 'EIO' | 'ENOSPC',
  work: (disk: FailingDisk & { catalog: string; open(): Promise<OpenPool> }) => Promise<void>
): Promise<void> {
  const catalogFolder = join(await temporaryFolder(), 'catalog')
  const useDisk = (disk: FailingDisk) => {
    const open = async () => {
      const catalog = await Catalog.open(catalogFolder)
      const directory = join(disk.folder, 'pool')
      const pool = await Pool.open({ directory, catalog, log }, { quotaBytes: 2 ** 30, minFreeBytes: 0 })
      const one: OpenPool = {
        pool,
        async close() {
          opened.delete(one)
          await pool.close().finally(() => catalog.close())
        }
      }
      opened.add(one)
      return one
    }
    return work({ ...disk, catalog: catalogFolder, open })
  }
  await withFailingDisk(error, useDisk, () => Promise.allSettled([...opened].map(one => one.close())))
}
