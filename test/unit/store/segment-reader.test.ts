import { closeSync, ftruncateSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { SLOTS_PER_SEGMENT, segmentPath } from '../../../src/store/segment-layout.ts'
import { MAX_OPEN_SEGMENTS, SegmentReader } from '../../../src/store/segment-reader.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'

afterEach(removeFolders)

test('reads a part of a block from the right place of the right file', async () => {
  const folder = await temporaryFolder()
  const bytes = Buffer.alloc(2 * BLOCK_SIZE_BYTES)
  bytes.write('here', BLOCK_SIZE_BYTES + 100)
  writeFileSync(segmentPath(folder, 3), bytes)
  const reader = new SegmentReader(folder)
  const target = Buffer.alloc(4)
  reader.readSync(3 * SLOTS_PER_SEGMENT + 1, 100, target)
  expect(target.toString()).toBe('here')
  reader.readSync(3 * SLOTS_PER_SEGMENT, BLOCK_SIZE_BYTES + 100, target)
  expect(target.toString()).toBe('here')
  const last = 4 * SLOTS_PER_SEGMENT - 1
  expect(() => reader.readSync(last, BLOCK_SIZE_BYTES - 2, target)).toThrow(withCode('INTERNAL'))
  reader.closeAll()
})

test('what cannot be read is STORE_IO with the file’s name, also where the file ends', async () => {
  const folder = await temporaryFolder()
  const reader = new SegmentReader(folder)
  expect(() => reader.readSync(5, 0, Buffer.alloc(4))).toThrow(segmentPath(folder, 0))
  writeFileSync(segmentPath(folder, 0), Buffer.alloc(BLOCK_SIZE_BYTES + 10))
  expect(() => reader.readSync(1, 8, Buffer.alloc(4))).toThrow(withCode('STORE_IO'))
  reader.closeAll()
})

test('a segment that was closed is opened anew: its file may be another one', async () => {
  const folder = await temporaryFolder()
  const path = segmentPath(folder, 0)
  const target = Buffer.alloc(3)
  const reader = new SegmentReader(folder)
  for (const text of ['old', 'new']) {
    writeFileSync(path, Buffer.alloc(BLOCK_SIZE_BYTES, text))
    reader.readSync(0, 0, target)
    expect(target.toString()).toBe(text)
    reader.close(0)
    unlinkSync(path)
  }
  reader.close(0)
  expect(reader.openFiles).toBe(0)
})

test('so many files are kept open, and no more', async () => {
  const folder = await temporaryFolder()
  const reader = new SegmentReader(folder)
  for (let segment = 0; segment <= MAX_OPEN_SEGMENTS; segment++) {
    const file = openSync(segmentPath(folder, segment), 'w')
    ftruncateSync(file, BLOCK_SIZE_BYTES)
    closeSync(file)
    reader.readSync(segment * SLOTS_PER_SEGMENT, 0, Buffer.alloc(1))
  }
  expect(reader.openFiles).toBe(MAX_OPEN_SEGMENTS)
  reader.readSync(0, 0, Buffer.alloc(1))
  reader.closeAll()
  expect(reader.openFiles).toBe(0)
})
