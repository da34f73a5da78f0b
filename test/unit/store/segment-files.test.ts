import { readdirSync } from 'node:fs'
import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { MAX_OPEN_SEGMENTS, SegmentFiles, SLOTS_PER_SEGMENT } from '../../../src/store/segment-files.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'
import { blockOf, canMount, mountSmallDisk, unmountSmallDisks } from './tools.ts'

afterEach(async () => {
  unmountSmallDisks()
  await removeFolders()
})

const read = (files: SegmentFiles, slot: number) => {
  const bytes = Buffer.alloc(BLOCK_SIZE_BYTES)
  files.readSync(slot, 0, bytes)
  return bytes
}

test('blocks that cross the end of a segment go on in the next', async () => {
  const folder = await temporaryFolder()
  const files = new SegmentFiles(folder)
  const blocks = Array.from({ length: 200 }, (_, number) => blockOf(number))
  const first = SLOTS_PER_SEGMENT - 100
  await files.write(first, blocks)
  for (const [number, block] of blocks.entries()) expect(read(files, first + number).equals(block)).toBe(true)
  expect([...files.list()]).toEqual([
    [0, SLOTS_PER_SEGMENT],
    [1, 100]
  ])
  expect((await stat(join(folder, '00001.seg'))).size).toBe(100 * BLOCK_SIZE_BYTES)
  expect((await stat(join(folder, '00001.seg'))).mode & 0o777).toBe(0o600)
  await files.sync()
  await files.close()
})

test('asynchronous reads give the same bytes', async () => {
  const files = new SegmentFiles(await temporaryFolder())
  await files.write(5, [blockOf(1), blockOf(2)])
  const target = Buffer.alloc(BLOCK_SIZE_BYTES)
  await files.read(6, target)
  expect(target.equals(blockOf(2))).toBe(true)
  await files.close()
})

test('reading does not make files', async () => {
  const folder = await temporaryFolder()
  const files = new SegmentFiles(folder)
  expect(() => read(files, 0)).toThrow(withCode('STORE_IO'))
  await expect(files.read(0, Buffer.alloc(BLOCK_SIZE_BYTES))).rejects.toThrow(withCode('STORE_IO'))
  expect(readdirSync(folder)).toEqual([])
})

test('foreign files are left alone', async () => {
  const folder = await temporaryFolder()
  for (const name of ['notes.txt', '1.seg', 'x00001.seg', '00001.seg.old']) await writeFile(join(folder, name), 'x')
  expect([...new SegmentFiles(folder).list()]).toEqual([])
})

test('not more files are open than the limit, and all can be used', async () => {
  const folder = await temporaryFolder()
  const files = new SegmentFiles(folder)
  const openHere = () => readdirSync('/proc/self/fd').length
  const before = openHere()
  const segments = MAX_OPEN_SEGMENTS + 50
  const writes: Promise<void>[] = []
  for (let segment = 0; segment < segments; segment++) {
    writes.push(files.write(segment * SLOTS_PER_SEGMENT, [blockOf(segment)]))
    if (writes.length === 8) await Promise.all(writes.splice(0))
  }
  await Promise.all(writes)
  expect(openHere() - before).toBeLessThanOrEqual(MAX_OPEN_SEGMENTS + 2)
  for (let segment = 0; segment < segments; segment++) {
    expect(read(files, segment * SLOTS_PER_SEGMENT).equals(blockOf(segment))).toBe(true)
  }
  expect(openHere() - before).toBeLessThanOrEqual(MAX_OPEN_SEGMENTS + 2)
  await files.sync()
  await files.close()
  expect(openHere()).toBeLessThanOrEqual(before + 2)
})

test.skipIf(!canMount)(
  'a write of which the system takes only a part goes on, to the error (needs to mount a tmpfs)',
  async () => {
    const files = new SegmentFiles(mountSmallDisk(3))
    const blocks = Array.from({ length: 64 }, (_, number) => blockOf(number))
    await expect(files.write(0, blocks)).rejects.toThrow(withCode('DISK_FULL'))
    const [slots] = files.list().values()
    // What did fit is right: the system took a part, and then said no.
    expect(slots).toBeGreaterThan(20)
    for (let slot = 0; slot < slots!; slot++) expect(read(files, slot).equals(blockOf(slot))).toBe(true)
    await files.close()
  }
)
