/**
 * A map file that is damaged in its middle. A layer whose map fits into memory does not open; of a larger one the requests that
 * need the damaged page fail, all others are served, and none is answered with what is wrong.
 */
import { beforeEach, expect, test } from 'vitest'
import { SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../src/errors.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const PAGE_BYTES = SECTORS_PER_PAGE * 512
const PAGES = 8
const SIZE_BYTES = PAGES * PAGE_BYTES
const ROTTEN = 3
/** Behind the identity and a block for what there was in the first format, 9 pieces of 512 bytes for each page. */
const RECORD_AT = 8192 + ROTTEN * 9 * 512
const image = new TestImage(SIZE_BYTES)
const corrupt = expect.objectContaining({
  code: 'LAYER_CORRUPT',
  message: expect.stringContaining(`/0001/map: the 512 bytes at ${RECORD_AT} are damaged`)
})

let folders = 0

function open(files: RecordingFiles, maxCleanPages: number, bootId = 'boot'): Promise<RowanDisk> {
  const limits = { logAreaBytes: 65_536, maxChangedPages: 100, maxCleanPages, maxLoggedBytes: 4096 }
  const folder = `/rotten-${folders++}`
  return RowanDisk.open(
    { ...components(image, bootId), files },
    { folder, machine: 'm', readOnly: false, create: true, limits }
  )
}

const content = (page: number) => new Uint8Array(4096).fill(page + 1)

async function read(disk: RowanDisk, offset: number): Promise<Uint8Array> {
  const target = new Uint8Array(4096)
  await disk.read(offset, target)
  return target
}

let files: RecordingFiles
beforeEach(async () => {
  files = new RecordingFiles()
  const disk = await open(files, PAGES)
  for (let page = 0; page < PAGES; page++) await disk.write(page * PAGE_BYTES + 4096, content(page))
  await disk.close()
  files.record({ kind: 'write', file: 'map', position: RECORD_AT + 100, bytes: Uint8Array.of(9, 9) })
})

test('a map that fits into memory is read when the machine starts, which it then does not', async () => {
  await expect(open(files, PAGES)).rejects.toThrow(corrupt)
})

test('of a larger one nothing but the damaged page is an error, and all that is asked of that one', async () => {
  let mapReads = 0
  files.fault = (operation, file) => {
    if (operation === 'read' && file === 'map') mapReads++
  }
  const disk = await open(files, 2)
  // The identity, twice, and the directory.
  expect(mapReads).toBe(3)
  const at = ROTTEN * PAGE_BYTES + 4096
  for (let page = 0; page < PAGES; page++) {
    const reading = read(disk, page * PAGE_BYTES + 4096)
    if (page === ROTTEN) await expect(reading).rejects.toThrow(corrupt)
    else expect(await reading).toEqual(content(page))
  }
  // Neither what was never written in it, nor what is longer than it.
  await expect(read(disk, ROTTEN * PAGE_BYTES)).rejects.toThrow(corrupt)
  await expect(read(disk, ROTTEN * PAGE_BYTES - 512)).rejects.toThrow(corrupt)
  await expect((async () => disk.write(at, content(0)))()).rejects.toThrow(corrupt)
  await expect((async () => disk.trim(at, 4096))()).rejects.toThrow(corrupt)
  expect(() => disk.extents(0, SIZE_BYTES, 100)).toThrow(corrupt)
  // The layer has not failed.
  await disk.write(8192, content(50))
  await disk.flush()
  await disk.close()
  const again = await open(files, 2)
  expect(await read(again, 8192)).toEqual(content(50))
  await expect(read(again, at)).rejects.toThrow(corrupt)
  await again.close()
})

test('a log that needs the damaged page makes the machine not start', async () => {
  // Put back for as long as it is written to.
  const whole = new RecordingFiles(files.disk.clone())
  whole.record({ kind: 'write', file: 'map', position: RECORD_AT + 100, bytes: new Uint8Array(2) })
  const disk = await open(whole, 2)
  await disk.write(ROTTEN * PAGE_BYTES + 65_536, content(60))
  disk.settle()
  whole.record({ kind: 'write', file: 'map', position: RECORD_AT + 100, bytes: Uint8Array.of(9, 9) })
  await expect(open(whole, 2)).rejects.toThrow(corrupt)
})

test('so does a layer that failed, all of whose map is to be written again', async () => {
  const disk = await open(files, 2)
  await disk.write(8192, content(50))
  files.fault = (operation, file) => {
    if (operation === 'sync' && file !== 'map') throw new RowanError('STORE_IO', 'injected')
  }
  await expect(disk.flush()).rejects.toThrow('injected')
  await disk.close()
  files.fault = () => {}
  await expect(open(files, 2)).rejects.toThrow(corrupt)
})
