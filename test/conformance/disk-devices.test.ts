/**
 * Every BlockDevice there is, through one suite.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import type { BlockDevice, Extent } from '../../src/disk/block-device.ts'
import { RowanDisk, type RowanDiskSettings } from '../../src/disk/rowan-disk.ts'
import { RowanError } from '../../src/errors.ts'
import { sha256 } from '../../src/image/hash.ts'
import { IndexBuilder } from '../../src/image/index-builder.ts'
import { Catalog } from '../../src/store/catalog.ts'
import { Images } from '../../src/store/images.ts'
import { Pool } from '../../src/store/pool.ts'
import { FileDevice } from '../tools/file-device.ts'
import { MemoryDevice } from '../tools/memory-device.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'
import { blockDeviceSuite, type MadeDevice } from './disk-suite.ts'

const { log } = components(new TestImage(0))

/** The simplest that can be: bytes in memory. */
class MemoryDisk implements BlockDevice {
  readonly readOnly = false
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }
  get sizeBytes() {
    return this.#bytes.length
  }
  read(offset: number, target: Uint8Array) {
    target.set(this.#part(offset, target.length))
  }
  write(offset: number, data: Uint8Array) {
    this.#part(offset, data.length).set(data)
  }
  trim(offset: number, length: number) {
    this.#part(offset, length).fill(0)
  }
  writeZeroes(offset: number, length: number) {
    this.#part(offset, length).fill(0)
  }
  extents(offset: number, lengthBytes: number): Extent[] {
    this.#part(offset, lengthBytes)
    return lengthBytes === 0 ? [] : [{ lengthBytes, isHole: false, isZero: false, isLocal: true }]
  }
  cache(offset: number, length: number) {
    this.#part(offset, length)
  }
  async flush() {}

  #part(offset: number, length: number): Uint8Array {
    if (offset + length > this.sizeBytes) throw new RowanError('OUT_OF_RANGE', `${offset} + ${length}`)
    return this.#bytes.subarray(offset, offset + length)
  }
}

/** Another device, later: every answer is a promise that takes a turn of the event loop. */
class LateDisk implements BlockDevice {
  readonly #under: BlockDevice

  constructor(under: BlockDevice) {
    this.#under = under
  }
  get sizeBytes() {
    return this.#under.sizeBytes
  }
  get readOnly() {
    return this.#under.readOnly
  }
  read = this.#later((...args: Parameters<BlockDevice['read']>) => this.#under.read(...args))
  write = this.#later((...args: Parameters<BlockDevice['write']>) => this.#under.write(...args))
  trim = this.#later((...args: Parameters<BlockDevice['trim']>) => this.#under.trim(...args))
  writeZeroes = this.#later((...args: Parameters<BlockDevice['writeZeroes']>) => this.#under.writeZeroes(...args))
  cache = this.#later((...args: Parameters<BlockDevice['cache']>) => this.#under.cache(...args))
  flush = this.#later(() => this.#under.flush())
  extents(...args: Parameters<BlockDevice['extents']>) {
    return this.#under.extents(...args)
  }

  #later<A extends unknown[]>(run: (...args: A) => void | Promise<void>): (...args: A) => Promise<void> {
    return async (...args) => {
      await new Promise(resolve => setImmediate(resolve))
      await run(...args)
      await new Promise(resolve => setImmediate(resolve))
    }
  }
}

function temporaryFolder(): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'rowan-conformance-'))
  return { folder, remove: () => rmSync(folder, { recursive: true }) }
}

interface Shape {
  sizeBytes?: number
  settings?: Partial<RowanDiskSettings>
  prepare?: (image: TestImage) => void
  wrap?: (disk: RowanDisk) => BlockDevice
}

/** A RowanDisk over an image made by the test. */
async function rowanDisk({
  sizeBytes = 600_000,
  settings,
  prepare,
  wrap = disk => disk
}: Shape = {}): Promise<MadeDevice> {
  const { folder, remove } = temporaryFolder()
  const image = new TestImage(sizeBytes)
  image.zeros.add(2)
  prepare?.(image)
  const open = () =>
    RowanDisk.open(components(image), {
      folder: join(folder, 'layers'),
      machine: 'm',
      readOnly: false,
      create: true,
      ...settings
    })
  let disk = await open()
  const keepsNothing = image.poolIsFull
  const reopen = async () => {
    await disk.close()
    disk = await open()
    return wrap(disk)
  }
  const close = async () => {
    await disk.close()
    remove()
  }
  return { device: wrap(disk), content: image.expected(0, new Uint8Array(sizeBytes)), keepsNothing, reopen, close }
}

/** A RowanDisk over an image in a real pool, of which the source brings what is not there. */
async function rowanDiskOnStore(): Promise<MadeDevice> {
  const { folder, remove } = temporaryFolder()
  const catalog = await Catalog.open(join(folder, 'catalog'))
  const pool = await Pool.open({ directory: join(folder, 'pool'), catalog, log }, { quotaBytes: 1e9, minFreeBytes: 0 })
  const images = new Images({ catalog, pool, log })
  const made = new TestImage(500_000)
  made.zeros.add(1)
  const content = made.expected(0, new Uint8Array(500_000))
  const padded = new Uint8Array(Math.ceil(content.length / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES)
  padded.set(content)
  const blockAt = (block: number) => padded.subarray(block * BLOCK_SIZE_BYTES, (block + 1) * BLOCK_SIZE_BYTES)

  const nodes: { level: number; bytes: Uint8Array }[] = []
  const builder = new IndexBuilder((_hash, bytes) => nodes.push({ level: nodes.length, bytes }))
  for (let block = 0; block < padded.length / BLOCK_SIZE_BYTES; block++) {
    if (made.zeros.has(block)) builder.addZero()
    else builder.add(sha256(blockAt(block)))
  }
  const image = await images.create(builder.finish(content.length).rootBytes)
  for (const { level, bytes } of nodes) await image.addNode(level, 0, bytes)
  for (const block of [0, 3]) image.stored(block, await pool.put(sha256(blockAt(block)), blockAt(block)))

  const source = {
    want: async (_id: string, block: number) => {
      const slot = await pool.put(sha256(blockAt(block)), blockAt(block))
      image.stored(block, slot)
      return { slot }
    }
  }
  const disk = await RowanDisk.open(
    { ...components(made), image, pool, source },
    { folder: join(folder, 'layers'), machine: 'm', readOnly: false, create: true }
  )
  const close = async () => {
    await disk.close()
    await pool.close()
    await catalog.close()
    remove()
  }
  return { device: disk, content, close }
}

const missAll = (image: TestImage) => {
  for (let block = 0; block < 20; block++) if (block !== 2) image.missing.add(block)
}

blockDeviceSuite('memory', async () => {
  const content = new TestImage(300_000).expected(0, new Uint8Array(300_000))
  return { device: new MemoryDisk(content.slice()), content }
})
blockDeviceSuite('RowanDisk, all blocks here', () => rowanDisk())
blockDeviceSuite('RowanDisk, size a multiple of 64 KiB', () => rowanDisk({ sizeBytes: 512 * 1024 }))
blockDeviceSuite('RowanDisk, size a multiple of 512', () => rowanDisk({ sizeBytes: 300_032 }))
blockDeviceSuite('RowanDisk, no block here', () => rowanDisk({ prepare: missAll }))
blockDeviceSuite('RowanDisk, pool full', () =>
  rowanDisk({
    prepare: image => {
      missAll(image)
      image.poolIsFull = true
    }
  })
)
blockDeviceSuite('RowanDisk, a short log', () =>
  rowanDisk({ settings: { limits: { logAreaBytes: 800, maxChangedPages: 2, maxLoggedBytes: 0 } } })
)
blockDeviceSuite('RowanDisk, read-only', () => rowanDisk({ settings: { readOnly: true }, prepare: missAll }))
blockDeviceSuite('RowanDisk, behind a late device', () =>
  rowanDisk({ prepare: missAll, wrap: disk => new LateDisk(disk) })
)
blockDeviceSuite('a plain file', async () => {
  const { folder, remove } = temporaryFolder()
  const content = new TestImage(300_000).expected(0, new Uint8Array(300_000))
  const path = join(folder, 'disk')
  writeFileSync(path, content)
  const device = new FileDevice(path)
  const close = async () => {
    device.close()
    remove()
  }
  return { device, content, close }
})
blockDeviceSuite('memory that tells its holes', async () => {
  const content = new TestImage(300_000).expected(0, new Uint8Array(300_000))
  return { device: new MemoryDevice(content), content }
})
blockDeviceSuite('RowanDisk over the real store', rowanDiskOnStore)
