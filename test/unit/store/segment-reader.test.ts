import { closeSync, ftruncateSync, openSync, readdirSync, unlinkSync, writeFileSync } from 'node:fs'
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

test('what is read aside is the block that was there, though the segment is closed meanwhile', async () => {
  const folder = await temporaryFolder()
  for (const [segment, text] of ['a', 'b'].entries()) {
    writeFileSync(segmentPath(folder, segment), Buffer.alloc(BLOCK_SIZE_BYTES, text))
  }
  const reader = new SegmentReader(folder)
  const targets = Array.from({ length: 64 }, () => Buffer.alloc(512))
  reader.readSync(0, 0, Buffer.alloc(1))
  const happened: string[] = []
  const reads = targets.map(
    target =>
      new Promise<boolean>(resolve => {
        reader.readAside(0, 1000, target, isRead => {
          happened.push('read')
          resolve(isRead)
        })
      })
  )
  reader.close(0)
  reader.afterReads(() => happened.push('let go'))
  // Takes the number of the file that would have been closed.
  reader.readSync(SLOTS_PER_SEGMENT, 0, Buffer.alloc(1))
  expect(happened).toEqual([])
  expect(await Promise.all(reads)).not.toContain(false)
  expect(targets.every(target => target.equals(Buffer.alloc(512, 'a')))).toBe(true)
  expect(happened.indexOf('let go')).toBe(63)
  reader.closeAll()
})

test('a read aside says when it gave too little, and when the segment is not open', async () => {
  const folder = await temporaryFolder()
  writeFileSync(segmentPath(folder, 0), Buffer.alloc(100))
  const reader = new SegmentReader(folder)
  const isRead = (offset: number) =>
    new Promise<boolean>(resolve => reader.readAside(0, offset, Buffer.alloc(10), resolve))
  expect(await isRead(0)).toBe(false)
  reader.readSync(0, 0, Buffer.alloc(1))
  expect(await isRead(0)).toBe(true)
  expect(await isRead(95)).toBe(false)
  reader.closeAll()
})

test('where one file must be closed, it is one that is not being read', async () => {
  const folder = await temporaryFolder()
  const reader = new SegmentReader(folder)
  for (let segment = 0; segment <= MAX_OPEN_SEGMENTS; segment++) {
    const file = openSync(segmentPath(folder, segment), 'w')
    ftruncateSync(file, BLOCK_SIZE_BYTES)
    closeSync(file)
  }
  const files = () => readdirSync('/proc/self/fd').length
  for (let segment = 0; segment < MAX_OPEN_SEGMENTS; segment++) {
    reader.readSync(segment * SLOTS_PER_SEGMENT, 0, Buffer.alloc(1))
  }
  const open = files()
  const read = new Promise<boolean>(resolve => reader.readAside(0, 0, Buffer.alloc(10), resolve))
  reader.readSync(MAX_OPEN_SEGMENTS * SLOTS_PER_SEGMENT, 0, Buffer.alloc(1))
  expect(files()).toBe(open)
  expect(await read).toBe(true)
  reader.closeAll()
  expect(files()).toBe(open - MAX_OPEN_SEGMENTS)
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
