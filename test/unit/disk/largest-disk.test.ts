/**
 * A disk of 8 TiB, the largest there is, over real sparse files: served at both ends, in memory that what was touched bounds.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { components, TestImage } from './support/test-image.ts'

const MIB = 1024 ** 2
const SIZE_BYTES = 8 * 1024 ** 4
const PAGE_BYTES = 8 * MIB
const MAP_PAGE_BYTES = 4096
const WRITE_BYTES = 4096
const SCATTERED = 2048

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rowan-8t-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** What typed arrays take: the pages of maps, and little else. */
const arrayBytes = () => process.memoryUsage().arrayBuffers
const content = (value: number, length = WRITE_BYTES) => new Uint8Array(length).fill(value)

async function read(disk: RowanDisk, offset: number): Promise<Uint8Array> {
  const target = new Uint8Array(WRITE_BYTES)
  await disk.read(offset, target)
  return target
}

async function write(disk: RowanDisk, offset: number, data: Uint8Array): Promise<void> {
  await disk.write(offset, data)
  disk.settle()
}

test('8 TiB are served at both ends and between, in 4 KiB of memory for each 8 MiB touched', async () => {
  const image = new TestImage(SIZE_BYTES)
  const open = () =>
    RowanDisk.open(components(image), { folder: join(folder, 'layers'), machine: 'm', readOnly: false, create: true })
  const before = process.memoryUsage()
  let disk = await open()
  const last = SIZE_BYTES - WRITE_BYTES
  expect(await read(disk, last)).toEqual(image.expected(last, content(0)))
  // The pages of a disk that has nothing in it are a list of a million pointers.
  expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(64 * MIB)

  // Each in a page of the map of its own, from the first to the last.
  const pages = SIZE_BYTES / PAGE_BYTES
  const offsets = Array.from({ length: SCATTERED }, (_, index) => {
    const page = Math.floor((index * (pages - 1)) / (SCATTERED - 1))
    return page * PAGE_BYTES + (index === 0 ? 0 : PAGE_BYTES - WRITE_BYTES)
  })
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
