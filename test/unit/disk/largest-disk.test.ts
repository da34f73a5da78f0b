/**
 * A disk of 8 TiB, the largest there is, over real sparse files: served at both ends and between, trimmed as a whole, in bounded
 * memory wherever it is touched.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const MIB = 1024 ** 2
const SIZE_BYTES = 8 * 1024 ** 4
const PAGE_BYTES = 8 * MIB
const MAP_PAGE_BYTES = 4096
const WRITE_BYTES = 4096
const SCATTERED = 2048
/** Fewer than by default, so that a test need not touch so much: at most three times as many are in memory. */
const MAX_PAGES = 512
const BEYOND = 8192

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rowan-8t-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** What typed arrays take: the pages of maps, and little else. */
function arrayBytes(): number {
  // V8 frees arrays on a thread of its own, which is done when the next collection begins.
  collectGarbage()
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

const content = (value: number, length = WRITE_BYTES) => new Uint8Array(length).fill(value)
const image = new TestImage(SIZE_BYTES)
const open = (limits?: {
  logAreaBytes: number
  maxChangedPages: number
  maxCleanPages: number
  maxLoggedBytes: number
}) =>
  RowanDisk.open(components(image), {
    folder: join(folder, 'layers'),
    machine: 'm',
    readOnly: false,
    create: true,
    ...(limits === undefined ? {} : { limits })
  })

/** Each in a page of the map of its own, from the first to the last. */
function scattered(count: number): number[] {
  const pages = SIZE_BYTES / PAGE_BYTES
  return Array.from({ length: count }, (_, index) => {
    const page = Math.floor((index * (pages - 1)) / (count - 1))
    return page * PAGE_BYTES + (index === 0 ? 0 : PAGE_BYTES - WRITE_BYTES)
  })
}

async function read(disk: RowanDisk, offset: number): Promise<Uint8Array> {
  const target = new Uint8Array(WRITE_BYTES)
  await disk.read(offset, target)
  return target
}

async function write(disk: RowanDisk, offset: number, data: Uint8Array): Promise<void> {
  await disk.write(offset, data)
  disk.settle()
}

test('8 TiB are served at both ends and between', async () => {
  const before = process.memoryUsage()
  let disk = await open()
  const last = SIZE_BYTES - WRITE_BYTES
  expect(await read(disk, last)).toEqual(image.expected(last, content(0)))
  // The pages of a disk that has nothing in it are a list of a million pointers.
  expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(64 * MIB)

  const offsets = scattered(SCATTERED)
  expect([offsets[0], offsets.at(-1)]).toEqual([0, last])
  const untouched = arrayBytes()
  for (const [index, offset] of offsets.entries()) await write(disk, offset, content(index % 251))
  await disk.flush()
  const touched = arrayBytes() - untouched
  expect(touched).toBeGreaterThan(SCATTERED * MAP_PAGE_BYTES * 0.9)
  expect(touched).toBeLessThan(SCATTERED * MAP_PAGE_BYTES + 16 * MIB)

  await disk.close()
  disk = await open()
  for (const [index, offset] of offsets.entries()) expect(await read(disk, offset)).toEqual(content(index % 251))
  const between = offsets[1]! - WRITE_BYTES
  expect(await read(disk, between)).toEqual(image.expected(between, content(0)))
  await disk.close()
})

test('writes scattered over 8 TiB take bounded memory, while it is written to and when it is opened again', async () => {
  const limits = {
    logAreaBytes: 4 * MIB,
    maxChangedPages: MAX_PAGES,
    maxCleanPages: MAX_PAGES,
    maxLoggedBytes: 128 * 1024
  }
  // The pages, and what is being written at the moment.
  const boundBytes = 3 * MAX_PAGES * MAP_PAGE_BYTES + 8 * MIB
  expect(boundBytes).toBeLessThan((BEYOND * MAP_PAGE_BYTES) / 2)
  let disk = await open(limits)
  const offsets = scattered(BEYOND)
  const before = arrayBytes()
  let mostBytes = 0
  for (const [index, offset] of offsets.entries()) {
    await write(disk, offset, content(index % 251))
    if (index % 64 === 0) await new Promise(resolve => setImmediate(resolve))
    if (index % 1024 === 0) mostBytes = Math.max(mostBytes, arrayBytes() - before)
  }
  expect(mostBytes).toBeLessThan(boundBytes)
  // What went out of memory comes back, changes, and goes again.
  for (const [index, offset] of offsets.entries()) {
    if (index % 3 > 0) continue
    await write(disk, offset, content((index + 1) % 251))
    expect(await read(disk, offset)).toEqual(content((index + 1) % 251))
  }
  expect(arrayBytes() - before).toBeLessThan(boundBytes)
  await disk.close()

  const closedBytes = arrayBytes()
  disk = await open(limits)
  expect(arrayBytes() - closedBytes).toBeLessThan(boundBytes)
  for (const [index, offset] of offsets.entries()) {
    expect(await read(disk, offset)).toEqual(content((index % 3 > 0 ? index : index + 1) % 251))
  }
  expect(arrayBytes() - closedBytes).toBeLessThan(boundBytes)
  await disk.close()
})

test('one look at the extents reads a part of a map that is not in memory, and all of one that is', async () => {
  const pages = 320
  const limits = { logAreaBytes: 4 * MIB, maxChangedPages: 10_000, maxCleanPages: pages, maxLoggedBytes: 128 * 1024 }
  let disk = await open(limits)
  await disk.trim(0, pages * PAGE_BYTES)
  for (let page = 0; page < pages; page++) await write(disk, page * PAGE_BYTES + WRITE_BYTES, content(1))
  const looked = () =>
    disk.extents(0, pages * PAGE_BYTES, 100_000).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  for (const [maxCleanPages, bytes] of [
    [pages, pages * PAGE_BYTES],
    [pages - 1, 256 * PAGE_BYTES]
  ] as const) {
    await disk.close()
    disk = await open({ ...limits, maxCleanPages })
    expect(looked()).toBe(bytes)
  }
  await disk.close()
})

test('what is known of 8 TiB that are trimmed takes less than a MiB, in memory and on the disk', async () => {
  let disk = await open()
  const last = SIZE_BYTES - WRITE_BYTES
  await disk.trim(0, SIZE_BYTES)
  await write(disk, last, content(5))
  await disk.close()
  const { blocks } = statSync(join(folder, 'layers', '0001', 'map'))
  expect(blocks * 512).toBeLessThan(MIB)

  const before = arrayBytes()
  disk = await open()
  expect(arrayBytes() - before).toBeLessThan(MIB)
  for (const tib of [0, 1, 2, 3, 5, 7]) expect(await read(disk, tib * 1024 ** 4)).toEqual(content(0))
  expect(await read(disk, last - WRITE_BYTES)).toEqual(content(0))
  expect(await read(disk, last)).toEqual(content(5))
  await disk.close()
})

test('8 TiB are trimmed with one request, and are zeros after the death of the daemon', async () => {
  const files = new RecordingFiles()
  // What goes on by itself, a checkpoint of a million pages, waits until the end.
  files.gated = true
  const last = SIZE_BYTES - WRITE_BYTES
  const openOn = (on: RecordingFiles, place: string) =>
    RowanDisk.open(
      { ...components(image), files: on },
      { folder: place, machine: 'm', readOnly: false, create: place === '/first' }
    )
  const opening = openOn(files, '/first')
  await files.finish(opening)
  const disk = await opening
  await write(disk, last, content(5))
  disk.trim(100, SIZE_BYTES - 200)
  disk.settle()
  const end = content(0)
  end.fill(5, WRITE_BYTES - 100)
  for (const found of [disk, await openOn(new RecordingFiles(files.disk.clone()), '/second')]) {
    expect(await read(found, 0)).toEqual(image.expected(0, content(0)).fill(0, 100))
    for (const tib of [1, 2, 3, 5, 7]) expect(await read(found, tib * 1024 ** 4)).toEqual(content(0))
    expect(await read(found, last)).toEqual(end)
  }
})
