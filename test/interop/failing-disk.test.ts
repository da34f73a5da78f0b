/**
 * A machine's layer on a disk that refuses to write for a while (failing-disk.ts): what is only in memory may not reach a guest that
 * was told that it is flushed.
 */
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { mergeable } from '../../src/disk/chain.ts'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { FAILING_DISK_TOOLS, type FailingDisk, withFailingDisk } from '../tools/failing-disk.ts'
import { removeFolders } from '../tools/folders.ts'
import { fuseCanBeHad, needTools } from '../tools/need.ts'
import { endProcesses } from '../tools/processes.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'

const KIB = 1024
const DISK_BYTES = 8 * KIB * KIB
/** A flush of more than this is a sync of the data, one of less a sync of the log. */
const LARGE_BYTES = 256 * KIB
const SMALL_BYTES = 4 * KIB

const PACE = { signal: new AbortController().signal, breathe: async () => {} }

const opened: RowanDisk[] = []

afterEach(endProcesses)
afterAll(removeFolders)

const describeDisk = needTools([...FAILING_DISK_TOOLS])

describeDisk('a host’s disk that refuses to write', () => {
  test.skipIf(!fuseCanBeHad()).each<['EIO' | 'ENOSPC', number]>([
    ['ENOSPC', LARGE_BYTES],
    ['ENOSPC', SMALL_BYTES],
    ['EIO', LARGE_BYTES],
    ['EIO', SMALL_BYTES]
  ])(
    'what is found after %s of a flush of %i bytes, and flushed, is there when nothing is in memory',
    async (error, length) => {
      const work = async ({ folder, refuse, accept, forget }: FailingDisk) => {
        const first = await openDisk(folder, 'boot-1', true)
        await first.write(0, new Uint8Array(LARGE_BYTES).fill(1))
        await first.flush()

        await refuse()
        await first.write(0, new Uint8Array(length).fill(2))
        await expect(first.flush()).rejects.toMatchObject({ code: 'LAYER_FAILED' })
        expect(() => first.write(0, new Uint8Array(512))).toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
        await accept()
        await first.close()

        // The same boot: what the kernel dropped is in its cache.
        const second = await openDisk(folder, 'boot-1')
        const shown = await readAll(second)
        expect(new Set(shown.subarray(length))).toEqual(new Set(length < LARGE_BYTES ? [1] : []))
        await second.flush()
        await second.close()

        await forget()
        const third = await openDisk(folder, 'boot-2')
        expect(Buffer.compare(await readAll(third), shown)).toBe(0)
        await third.close()
      }
      await withFailingDisk(error, work, () => Promise.allSettled(opened.splice(0).map(disk => disk.close())))
    }
  )

  test.skipIf(!fuseCanBeHad()).each<['EIO' | 'ENOSPC', number]>([
    ['ENOSPC', LARGE_BYTES],
    ['ENOSPC', SMALL_BYTES],
    ['EIO', LARGE_BYTES],
    ['EIO', SMALL_BYTES]
  ])(
    'what is written and flushed where a first write had failed with %s (%i bytes) is there when nothing is in memory',
    async (error, length) => {
      const work = async ({ folder, refuse, accept, forget }: FailingDisk) => {
        const first = await openDisk(folder, 'boot-1', true)
        await refuse()
        await first.write(0, new Uint8Array(length).fill(2))
        await expect(first.flush()).rejects.toMatchObject({ code: 'LAYER_FAILED' })
        await accept()
        await first.close()

        const second = await openDisk(folder, 'boot-1')
        await second.write(0, new Uint8Array(LARGE_BYTES).fill(3))
        await second.flush()
        await second.close()

        await forget()
        const third = await openDisk(folder, 'boot-2')
        expect(new Set(await readAll(third))).toEqual(new Set([3]))
        await third.close()
      }
      await withFailingDisk(error, work, () => Promise.allSettled(opened.splice(0).map(disk => disk.close())))
    }
  )

  test.skipIf(!fuseCanBeHad())('a merge that failed, and was made again, is on the disk', async () => {
    const work = async ({ folder, refuse, accept, forget }: FailingDisk) => {
      const first = await openDisk(folder, 'boot-1', true)
      const snapshot = () => first.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
      await first.write(0, new Uint8Array(LARGE_BYTES / 2).fill(1))
      const { name } = await snapshot()
      await first.write(LARGE_BYTES / 2, new Uint8Array(SMALL_BYTES).fill(2))
      await snapshot()
      await first.discard(name)
      const layers = first.layers!
      const [pair] = mergeable(layers.chain)
      await refuse()
      await expect(layers.compaction.merge(pair!, PACE)).rejects.toMatchObject({ code: 'STORE_IO' })
      await accept()
      expect(await layers.compaction.merge(pair!, PACE)).toBe(true)
      const shown = await readAll(first)
      expect(new Set(shown)).toContain(2)
      await first.close()

      await forget()
      const second = await openDisk(folder, 'boot-2')
      expect(Buffer.compare(await readAll(second), shown)).toBe(0)
      await second.close()
    }
    await withFailingDisk('EIO', work, () => Promise.allSettled(opened.splice(0).map(disk => disk.close())))
  })
})

async function openDisk(folder: string, bootId: string, create = false): Promise<RowanDisk> {
  const settings = { folder: join(folder, 'layers'), machine: 'm', readOnly: false, create }
  const disk = await RowanDisk.open(components(new TestImage(DISK_BYTES), bootId), settings)
  opened.push(disk)
  return disk
}

async function readAll(disk: RowanDisk): Promise<Uint8Array> {
  const found = new Uint8Array(LARGE_BYTES)
  await disk.read(0, found)
  return found
}
