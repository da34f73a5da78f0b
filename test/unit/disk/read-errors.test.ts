/**
 * Reads that the host's disk refuses: an error of that request alone, or no error at all where a replica can help.
 */
import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../src/errors.ts'
import { errnoOf } from '../../../src/nbd/errno.ts'
import { COMMAND, ERRNO } from '../../../src/nbd/protocol.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const SIZE_BYTES = 4 * BLOCK_SIZE_BYTES

let folders = 0

async function diskOver(files: RecordingFiles, image = new TestImage(SIZE_BYTES), create = true, bootId = 'boot-1') {
  const folder = `/read-errors-${folders++}`
  const disk = await RowanDisk.open(
    { ...components(image, bootId), files },
    { folder, machine: 'm', readOnly: false, create }
  )
  return { disk, image }
}

/** Reads of one file fail. */
function refuse(files: RecordingFiles, file: string): void {
  files.fault = (operation, where) => {
    if (operation === 'read' && where === file) throw new RowanError('STORE_IO', `read ${where}: EIO`)
  }
}

const bytes = (length: number, value: number) => new Uint8Array(length).fill(value)

async function read(disk: RowanDisk, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length)
  await disk.read(offset, target)
  return target
}

/** What a guest gets for a request. */
async function errnoFor(command: number, request: () => unknown): Promise<number> {
  try {
    await request()
    return 0
  } catch (error) {
    return errnoOf(error, command)
  }
}

test('one bad slot among blocks that are read with one access costs only itself: it is asked for anew', async () => {
  const { disk, image } = await diskOver(new RecordingFiles())
  expect(await read(disk, 100, 3 * BLOCK_SIZE_BYTES)).toEqual(image.expected(100, new Uint8Array(3 * BLOCK_SIZE_BYTES)))
  expect(image.poolReads).toBe(1)
  image.unreadable.add(2)
  const target = new Uint8Array(3 * BLOCK_SIZE_BYTES)
  const done = disk.read(100, target)
  image.unreadable.clear()
  await done
  expect(target).toEqual(image.expected(100, new Uint8Array(target.length)))
  expect(image.wanted).toEqual([2])
  expect(image.poolReads).toBeGreaterThan(3)
  await disk.close()
})

test('data that cannot be read is EIO, everything beside it is served, and later it is there', async () => {
  const files = new RecordingFiles()
  const { disk, image } = await diskOver(files)
  await disk.write(4096, bytes(4096, 7))
  disk.settle()
  refuse(files, 'data')
  expect(await errnoFor(COMMAND.READ, () => read(disk, 4096, 512))).toBe(ERRNO.EIO)
  expect(await errnoFor(COMMAND.READ, () => read(disk, 0, 16_384))).toBe(ERRNO.EIO)
  expect(await read(disk, 8192, 4096)).toEqual(image.expected(8192, new Uint8Array(4096)))
  await disk.write(16_384, bytes(512, 8))
  disk.settle()
  files.fault = () => {}
  expect(await read(disk, 4096, 4096)).toEqual(bytes(4096, 7))
  expect(await read(disk, 16_384, 512)).toEqual(bytes(512, 8))
  await disk.close()
})

test('a write inside a sector that cannot be read is EIO, and the sector stays as it was', async () => {
  const files = new RecordingFiles()
  const { disk } = await diskOver(files)
  await disk.write(0, bytes(1024, 7))
  disk.settle()
  refuse(files, 'data')
  expect(await errnoFor(COMMAND.WRITE, () => disk.write(100, bytes(50, 9)))).toBe(ERRNO.EIO)
  expect(await errnoFor(COMMAND.WRITE, () => disk.write(512, bytes(512, 9)))).toBe(0)
  disk.settle()
  files.fault = () => {}
  expect(await read(disk, 0, 1024)).toEqual(Uint8Array.from([...bytes(512, 7), ...bytes(512, 9)]))
  await disk.close()
})

test('a write with FUA that cannot read what it would log fails, and the next flush, which reads nothing, flushes it', async () => {
  const files = new RecordingFiles()
  const { disk, image } = await diskOver(files)
  refuse(files, 'data')
  // Of a part of a sector, what is around it is logged with it.
  expect(() => disk.write(0, bytes(100, 7), { fua: true })).toThrow(expect.objectContaining({ code: 'STORE_IO' }))
  disk.settle()
  await disk.flush()
  files.fault = () => {}
  const afterPowerLoss = new RecordingFiles(files.disk.afterPowerLoss(() => 0))
  const { disk: again } = await diskOver(afterPowerLoss, image, false, 'boot-2')
  expect(await read(again, 0, 100)).toEqual(bytes(100, 7))
})

for (const file of ['log', 'map', 'data']) {
  test(`a machine whose ${file} cannot be read does not start with less; once it can, all is there`, async () => {
    const files = new RecordingFiles()
    const { disk, image } = await diskOver(files)
    await disk.write(0, bytes(4096, 7))
    disk.settle()
    // Each read of an opening in its turn, until there is none left to fail.
    let refused = 0
    for (;;) {
      const left = new RecordingFiles(files.disk.clone())
      let reads = 0
      left.fault = (operation, where) => {
        if (operation !== 'read' || where !== file || reads++ !== refused) return
        throw new RowanError('STORE_IO', `read ${file}: EIO`)
      }
      const opening = diskOver(left, image, false)
      await Promise.allSettled([opening])
      if (reads <= refused) break
      await expect(opening).rejects.toThrow(`read ${file}: EIO`)
      refused++
      left.fault = () => {}
      const { disk: again } = await diskOver(left, image, false)
      expect(await read(again, 0, 4096)).toEqual(bytes(4096, 7))
    }
    expect(refused).toBeGreaterThan(0)
  })
}

test('a block of the pool that cannot be read is fetched anew, and no error of the guest', async () => {
  const files = new RecordingFiles()
  const { disk, image } = await diskOver(files)
  await disk.write(BLOCK_SIZE_BYTES, bytes(512, 7))
  disk.settle()
  image.unreadable.add(0).add(1)
  const [first, second] = [0, BLOCK_SIZE_BYTES].map(offset => image.expected(offset, new Uint8Array(BLOCK_SIZE_BYTES)))
  second!.set(bytes(512, 7))
  expect(await read(disk, 0, 2 * BLOCK_SIZE_BYTES)).toEqual(Uint8Array.from([...first!, ...second!]))
  expect(image.wanted).toEqual([0, 1])
  await disk.close()
})
