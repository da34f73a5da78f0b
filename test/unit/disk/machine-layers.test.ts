import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../src/errors.ts'
import { SimulatedFiles } from './support/simulated-files.ts'
import { components, TestImage } from './support/test-image.ts'

const REQUEST = { note: '', taken: '2026-01-02T03:04:05.678Z' }
const PAGE_BYTES = SECTORS_PER_PAGE * 512
const PAGES = 64

let lives = 0

describe('a snapshot of a disk in use', () => {
  let files: SimulatedFiles
  let folder: string
  let disk: RowanDisk

  const open = async () => {
    const parts = { ...components(new TestImage(PAGES * PAGE_BYTES)), files }
    disk = await RowanDisk.open(parts, { folder, machine: 'm', readOnly: false, create: true })
  }
  const write = (page: number, value: number) => disk.write(page * PAGE_BYTES, new Uint8Array(512).fill(value))
  const read = async (page: number) => {
    const target = new Uint8Array(512)
    await disk.read(page * PAGE_BYTES, target)
    return target[0]
  }

  beforeEach(async () => {
    files = new SimulatedFiles()
    folder = `/machine-layers-${lives++}/layers`
    await open()
  })
  afterEach(() => disk.close())

  test('has all that was written up to it, also what nothing of the layer’s map was written of before', async () => {
    const isOver = { now: false }
    const taken = disk.snapshot(REQUEST).finally(() => {
      isOver.now = true
    })
    const writing: (void | Promise<void>)[] = []
    let page = 0
    // At any moment of it: each write is in another page of the map.
    for (; !isOver.now && page < PAGES; page++) {
      writing.push(write(page, page + 1))
      for (let wait = 0; wait < 7; wait++) await null
    }
    await taken
    await Promise.all(writing)
    expect(page).toBeGreaterThan(10)
    for (let each = 0; each < page; each++) expect(await read(each)).toBe(each + 1)
    await disk.close()
    await open()
    for (let each = 0; each < page; each++) expect(await read(each)).toBe(each + 1)
  })

  test('that may or may not be there after a power loss is followed by no write until the disk is opened again', async () => {
    await write(0, 1)
    disk.settle()
    let isRenamed = false
    files.fault = (operation, path) => {
      if (operation === 'rename' && path.endsWith('/chain.json.new')) isRenamed = true
      if (operation === 'sync-folder' && isRenamed) throw new RowanError('STORE_IO', 'injected')
    }
    await expect(disk.snapshot(REQUEST)).rejects.toMatchObject({ code: 'STORE_IO' })
    files.fault = () => {}
    expect(() => write(0, 2)).toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
    expect(await read(0)).toBe(1)
    await expect(disk.snapshot(REQUEST)).rejects.toMatchObject({ code: 'LAYER_FAILED' })
    await disk.close()
    await open()
    expect(disk.layers!.chain.snapshots).toHaveLength(1)
    expect(await read(0)).toBe(1)
    await write(0, 2)
    await disk.flush()
    expect(await read(0)).toBe(2)
  })
})
