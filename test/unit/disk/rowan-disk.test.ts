import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { MAX_EARLY_BLOCKS } from '../../../src/disk/early-blocks.ts'
import { RowanDisk, type RowanDiskSettings } from '../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../src/errors.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

/** 4 blocks and 100 bytes. */
const SIZE_BYTES = 4 * BLOCK_SIZE_BYTES + 100

let folder: string
let image: TestImage
let parts: ReturnType<typeof components>
const open: RowanDisk[] = []

async function openDisk(settings: Partial<RowanDiskSettings> = {}): Promise<RowanDisk> {
  const disk = await RowanDisk.open(parts, { folder, machine: 'm', readOnly: false, create: true, ...settings })
  open.push(disk)
  return disk
}

beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'rowan-disk-')), 'layers')
  image = new TestImage(SIZE_BYTES)
  parts = components(image)
})
afterEach(async () => {
  for (const disk of open.splice(0)) await disk.close()
  rmSync(join(folder, '..'), { recursive: true })
})

const expected = (offset: number, length: number) => image.expected(offset, new Uint8Array(length))

/** Lets all that needs no event from outside happen. */
const settle = () => new Promise(resolve => setImmediate(resolve))

describe('RowanDisk: reads', () => {
  test('the first touch of each block of the image is told, local or not, with its place in it, and nothing else', async () => {
    const touched: [number, number, number][] = []
    parts = { ...parts, ...{ touches: { touched: (...touch: [number, number, number]) => touched.push(touch) } } }
    parts.clock.ms = 500
    const disk = await openDisk()
    image.missing.add(2)
    parts.clock.ms = 510
    disk.read(BLOCK_SIZE_BYTES + 4096, new Uint8Array(10))
    parts.clock.ms = 530
    await disk.read(2 * BLOCK_SIZE_BYTES + 512, new Uint8Array(1))
    disk.read(BLOCK_SIZE_BYTES + 1024, new Uint8Array(3 * BLOCK_SIZE_BYTES - 1024))
    expect(touched).toEqual([
      [1, 10, 4096],
      [2, 30, 512],
      [3, 30, 0]
    ])
    // What the guest wrote itself is not the image's.
    disk.write(0, new Uint8Array(4096))
    disk.read(0, new Uint8Array(4096))
    expect(touched).toHaveLength(3)
  })

  test('what is here is read at once', async () => {
    const disk = await openDisk()
    image.zeros.add(1)
    const target = new Uint8Array(SIZE_BYTES)
    expect(disk.read(0, target)).toBeUndefined()
    expect(target).toEqual(expected(0, SIZE_BYTES))
    expect(disk.stats.waitedReads).toBe(0)
  })

  test('blocks that one read misses are wanted together, and only the asked part of them is copied', async () => {
    const disk = await openDisk()
    for (const block of [0, 1, 3]) image.missing.add(block)
    image.held = true
    const target = new Uint8Array(3 * BLOCK_SIZE_BYTES + 10)
    const read = disk.read(BLOCK_SIZE_BYTES - 5, target)
    expect(image.wanted).toEqual([0, 1, 3])
    for (const index of [2, 0, 0]) image.release(index)
    await read
    expect(target).toEqual(expected(BLOCK_SIZE_BYTES - 5, target.length))
    expect(disk.stats.fetchedBlocks).toBe(3)
  })

  test('reads that miss the same block ask once', async () => {
    const disk = await openDisk()
    image.missing.add(2)
    image.held = true
    const targets = [0, 100, 5000].map(at => ({ at: 2 * BLOCK_SIZE_BYTES + at, bytes: new Uint8Array(700) }))
    const reads = targets.map(({ at, bytes }) => disk.read(at, bytes))
    expect(image.wanted).toEqual([2])
    image.release()
    await Promise.all(reads)
    for (const { at, bytes } of targets) expect(bytes).toEqual(expected(at, 700))
  })

  test('a block that the pool cannot keep is delivered all the same', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.poolIsFull = true
    const target = new Uint8Array(1000)
    await disk.read(77, target)
    expect(target).toEqual(expected(77, 1000))
    expect(image.missing.has(0)).toBe(true)
  })

  test('a block that came before the pool had it is read on at once, and was fetched once', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.poolIsFull = true
    const target = new Uint8Array(4096)
    await disk.read(0, target)
    for (let at = 4096; at < BLOCK_SIZE_BYTES; at += 4096) {
      expect(disk.read(at, target)).toBeUndefined()
      expect(target).toEqual(expected(at, 4096))
    }
    expect(image.wanted).toEqual([0])
    expect(disk.stats).toMatchObject({ fetchedBlocks: 1, waitedReads: 1 })
    expect(image.poolReads).toBe(0)
    image.missing.delete(0)
    expect(disk.read(0, target)).toBeUndefined()
    expect(image.poolReads).toBe(1)
  })

  test('of blocks that the pool cannot keep a bounded number is remembered, the last ones', async () => {
    image = new TestImage((MAX_EARLY_BLOCKS + 2) * BLOCK_SIZE_BYTES)
    parts = components(image)
    const disk = await openDisk()
    image.poolIsFull = true
    const target = new Uint8Array(512)
    const read = (block: number) => disk.read(block * BLOCK_SIZE_BYTES, target)
    for (let block = 0; block <= MAX_EARLY_BLOCKS; block++) {
      image.missing.add(block)
      await read(block)
    }
    for (let block = 1; block <= MAX_EARLY_BLOCKS; block++) expect(read(block)).toBeUndefined()
    expect(image.wanted).toHaveLength(MAX_EARLY_BLOCKS + 1)
    await read(0)
    expect(image.wanted.at(-1)).toBe(0)
    // Those that the pool has by now make room first.
    image.missing.delete(5)
    image.missing.add(MAX_EARLY_BLOCKS + 1)
    await read(MAX_EARLY_BLOCKS + 1)
    image.missing.add(5)
    expect(read(2)).toBeUndefined()
    expect(read(5)).toBeInstanceOf(Promise)
  })

  test('a block that is gone again when it is read is asked for again, but not for ever', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.evictions = 3
    const target = new Uint8Array(512)
    await disk.read(0, target)
    expect(target).toEqual(expected(0, 512))
    expect(image.wanted).toEqual([0, 0, 0, 0])
    image.missing.add(0)
    image.evictions = Number.POSITIVE_INFINITY
    await expect(disk.read(0, target)).rejects.toThrow(expect.objectContaining({ code: 'STORE_IO' }))
  })

  test('a block whose slot cannot be read any more is asked for again, and is no I/O error', async () => {
    const disk = await openDisk()
    image.unreadable.add(1)
    const target = new Uint8Array(3 * BLOCK_SIZE_BYTES)
    await disk.read(0, target)
    expect(target).toEqual(expected(0, target.length))
    expect(image.wanted).toEqual([1])
  })

  test('says of plain data that no part of it is known to be zeros, and of the rest that it may be', async () => {
    const disk = await openDisk()
    image.zeros.add(1)
    expect(disk.mayBeZero(4096, 4096)).toBe(false)
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES, 512)).toBe(true)
    disk.write(BLOCK_SIZE_BYTES, new Uint8Array(4096).fill(1))
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES, 4096)).toBe(false)
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES, 8192)).toBe(true)
    disk.trim(512, 512)
    expect(disk.mayBeZero(512, 512)).toBe(true)
    expect(disk.mayBeZero(0, 1024)).toBe(true)
    expect(disk.mayBeZero(2 * BLOCK_SIZE_BYTES, 2 * BLOCK_SIZE_BYTES)).toBe(true)
  })

  test('says so of frozen layers, too: never that there are no zeros where there are some', async () => {
    const disk = await openDisk()
    image.zeros.add(1)
    disk.write(BLOCK_SIZE_BYTES, new Uint8Array(8192).fill(1))
    disk.trim(0, 512)
    await disk.snapshot({ note: '', taken: '2030-01-01T00:00:00.000Z' })
    disk.trim(BLOCK_SIZE_BYTES, 512)
    disk.write(0, new Uint8Array(512).fill(2))
    await disk.snapshot({ note: '', taken: '2030-01-01T00:00:01.000Z' })
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES + 4096, 4096)).toBe(false)
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES + 4096, 8192)).toBe(true)
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES, 4096)).toBe(true)
    expect(disk.mayBeZero(0, 512)).toBe(false)
    // What the layers leave to the image.
    expect(disk.mayBeZero(4096, 4096)).toBe(false)
    expect(disk.mayBeZero(BLOCK_SIZE_BYTES + 16384, 512)).toBe(true)
    disk.trim(4096, 512)
    for (let at = 0; at < 2 * BLOCK_SIZE_BYTES; at += 512) {
      for (const count of [512, 1024, 4096]) {
        const zeros = disk.extents(at, count, 99).filter(({ isZero }) => isZero)
        expect(disk.mayBeZero(at, count) || zeros.length === 0, `${count} bytes at ${at}`).toBe(true)
      }
    }
  })

  test('a block that turns out to be zero while it is waited for reads as zeros', async () => {
    const disk = await openDisk()
    image.missing.add(1)
    image.held = true
    const target = new Uint8Array(512).fill(1)
    const read = disk.read(BLOCK_SIZE_BYTES, target)
    image.zeros.add(1)
    image.release()
    await read
    expect(target).toEqual(new Uint8Array(512))
  })

  test('an error of the source is told once nothing is under way any more', async () => {
    const disk = await openDisk()
    image.missing.add(0).add(1)
    image.held = true
    const { want } = image
    parts.source.want = (id, block, ...rest) =>
      block === 0 ? Promise.reject(new RowanError('NO_REPLICA', 'nobody')) : want.call(image, id, block, ...rest)
    let told = false
    const read = Promise.resolve(disk.read(BLOCK_SIZE_BYTES - 1, new Uint8Array(2))).finally(() => {
      told = true
    })
    read.catch(() => {})
    await settle()
    expect(told).toBe(false)
    image.release()
    await expect(read).rejects.toThrow(expect.objectContaining({ code: 'NO_REPLICA' }))
  })

  test('on a slow store reads go aside first, and see what is there when they come back', async () => {
    let ms = 0
    parts.clock.monotonicMs = () => ms++
    const disk = await openDisk()
    const data = new Uint8Array(1024).fill(7)
    disk.write(4096, data)
    disk.trim(8192, 1024)
    const target = new Uint8Array(16_384)
    for (let read = 0; read < 64; read++) await disk.read(0, target)
    expect(image.asides).toBeGreaterThan(20)
    const late = disk.read(0, target)
    expect(late).toBeInstanceOf(Promise)
    disk.write(512, data.subarray(0, 512))
    await late
    const now = expected(0, 16_384)
    now.fill(7, 4096, 5120).fill(0, 8192, 9216).fill(7, 512, 1024)
    expect(target).toEqual(now)
    const closing = disk.read(0, target)
    const closed = expect(closing).rejects.toThrow(expect.objectContaining({ code: 'DISK_CLOSED' }))
    await disk.close()
    await closed
  })

  test('on a slow store a large part of one block is read aside once, unless the guest wrote there or the slot failed', async () => {
    let ms = 0
    parts.clock.monotonicMs = () => ms++
    image.keepsSlots = true
    const disk = await openDisk()
    const length = 40 * 1024
    const target = new Uint8Array(length)
    for (let read = 0; read < 64; read++) await disk.read(0, target)
    const { asides, poolReads } = image
    // Not made in place: one in 16 is, to see whether the store is still slow.
    const late = disk.read(4096, target)
    expect(late).toBeInstanceOf(Promise)
    await late
    expect(target).toEqual(expected(4096, length))
    expect([image.asides - asides, image.poolReads - poolReads]).toEqual([1, 1])

    const overtaken = disk.read(8192, target)
    disk.write(8192, new Uint8Array(512).fill(9))
    await overtaken
    const now = expected(8192, length)
    now.fill(9, 0, 512)
    expect(target).toEqual(now)

    image.unreadable.add(2)
    const failed = disk.read(2 * BLOCK_SIZE_BYTES, target)
    await Promise.resolve()
    setImmediate(() => image.unreadable.clear())
    await failed
    expect(target).toEqual(expected(2 * BLOCK_SIZE_BYTES, length))
    await disk.close()
  })

  test('on a slow store a small read brings its block, whose other reads are made in place', async () => {
    let stepMs = 1
    let ms = 0
    parts.clock.monotonicMs = () => {
      ms += stepMs
      return ms
    }
    image.keepsSlots = true
    const disk = await openDisk()
    const target = new Uint8Array(4096)
    const large = new Uint8Array(40 * 1024)
    for (let read = 0; read < 32; read++) await disk.read(0, large)
    expect(image.warmed).toEqual([])
    const first = disk.read(BLOCK_SIZE_BYTES + 8192, target)
    expect(first).toBeInstanceOf(Promise)
    // Another of the block meanwhile goes aside by itself.
    const second = disk.read(BLOCK_SIZE_BYTES + 4096, new Uint8Array(4096))
    disk.write(BLOCK_SIZE_BYTES + 8192, new Uint8Array(512).fill(9))
    await Promise.all([first, second])
    const now = expected(BLOCK_SIZE_BYTES + 8192, 4096)
    now.fill(9, 0, 512)
    expect(target).toEqual(now)
    expect(image.warmed).toEqual([{ slot: 1, offsetInBlock: 0, lengthBytes: BLOCK_SIZE_BYTES }])

    stepMs = 0
    const { asides } = image
    for (let at = 0; at < BLOCK_SIZE_BYTES; at += 4096) {
      expect(disk.read(BLOCK_SIZE_BYTES + at, target)).toBeUndefined()
    }
    expect(target).toEqual(expected(2 * BLOCK_SIZE_BYTES - 4096, 4096))
    expect(image.asides).toBe(asides)

    // It is not in memory after all, and is not brought again.
    stepMs = 1
    for (let read = 0; read < 300; read++) await disk.read(BLOCK_SIZE_BYTES, target)
    expect(image.asides - asides).toBeGreaterThan(100)
    expect(image.warmed).toHaveLength(1)
    await disk.close()
  })

  test('time with a read pending on the network is counted', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.held = true
    const read = disk.read(0, new Uint8Array(1))
    parts.clock.ms += 40
    expect(disk.stats).toMatchObject({ waitedMs: 40, waitedReads: 1 })
    image.release()
    await read
    parts.clock.ms += 100
    expect(disk.stats).toMatchObject({ waitedMs: 40, longestWaitMs: 40, waitedReads: 1, fetchedBlocks: 1 })
  })
})

describe('RowanDisk: writes', () => {
  test('need nothing of the image where they cover sectors', async () => {
    const disk = await openDisk()
    for (let block = 0; block < 5; block++) image.missing.add(block)
    const data = new Uint8Array(1024).fill(9)
    expect(disk.write(512, data)).toBeUndefined()
    expect(disk.trim(4096, 4096)).toBeUndefined()
    // The last sector has 100 bytes.
    expect(disk.write(SIZE_BYTES - 100, data.subarray(0, 100))).toBeUndefined()
    expect(disk.writeZeroes(SIZE_BYTES - 612, 612)).toBeUndefined()
    const target = new Uint8Array(1024)
    expect(disk.read(512, target)).toBeUndefined()
    expect(target).toEqual(data)
    expect(image.wanted).toEqual([])
    expect(disk.stats.writtenBytes).toBe(1124)
  })

  test('within a sector keep what is around them, which is fetched first', async () => {
    const disk = await openDisk()
    image.missing.add(0).add(1)
    image.held = true
    const data = new Uint8Array(1000).fill(9)
    const at = BLOCK_SIZE_BYTES - 300
    const write = disk.write(at, data)
    expect(image.wanted).toEqual([0, 1])
    image.release()
    image.release()
    await write
    const want = expected(at - 700, 2400)
    want.fill(9, 700, 1700)
    const target = new Uint8Array(2400)
    await disk.read(at - 700, target)
    expect(target).toEqual(want)
  })

  test('a later write is not undone by an earlier one that waited for the bytes around it', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.held = true
    const order: string[] = []
    const first = Promise.resolve(disk.write(10, Uint8Array.of(1))).then(() => order.push('first'))
    const second = Promise.resolve(disk.write(0, new Uint8Array(512).fill(2))).then(() => order.push('second'))
    const third = Promise.resolve(disk.trim(100, 1000)).then(() => order.push('third'))
    // It does not overlap, so it passes.
    expect(disk.write(4096, new Uint8Array(512).fill(4))).toBeUndefined()
    await settle()
    expect(order).toEqual([])
    image.release()
    await first
    await settle()
    image.release()
    await Promise.all([second, third])
    expect(order).toEqual(['first', 'second', 'third'])
    const target = new Uint8Array(512)
    await disk.read(0, target)
    expect(target).toEqual(new Uint8Array(512).fill(2, 0, 100))
  })

  test('a write whose block cannot be had fails, and leaves the sector as it was', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    const { want } = image
    parts.source.want = () => Promise.reject(new RowanError('ABORTED', 'stopped'))
    await expect(disk.write(10, Uint8Array.of(1))).rejects.toThrow(expect.objectContaining({ code: 'ABORTED' }))
    parts.source.want = want.bind(image)
    const target = new Uint8Array(512)
    await disk.read(0, target)
    expect(target).toEqual(expected(0, 512))
  })

  test('with fua are durable when they are done', async () => {
    const files = new RecordingFiles()
    const openOn = (on: RecordingFiles, bootId: string) =>
      RowanDisk.open(
        { ...parts, files: on, bootId },
        { folder: `/${bootId}`, machine: 'm', readOnly: false, create: true }
      )
    const disk = await openOn(files, 'boot')
    const changes = [
      () => disk.write(0, new Uint8Array(512).fill(5), { fua: true }),
      () => disk.trim(512, 512, { fua: true }),
      () => disk.writeZeroes(1024, 700, { fua: true }),
      () => disk.write(1800, new Uint8Array(10).fill(6), { fua: true })
    ]
    const want = expected(0, 2048)
    const filled = [
      [5, 0, 512],
      [0, 512, 1024],
      [0, 1024, 1724],
      [6, 1800, 1810]
    ] as const
    for (const [index, change] of changes.entries()) {
      await change()
      const [value, from, to] = filled[index]!
      want.fill(value, from, to)
      const afterPowerLoss = await openOn(new RecordingFiles(files.disk.afterPowerLoss(() => 0)), `boot-${index}`)
      const target = new Uint8Array(2048)
      afterPowerLoss.read(0, target)
      expect(target).toEqual(want)
    }
  })

  test('with fua wait for a sync of their own sectors, not for what others have written', async () => {
    const files = new RecordingFiles()
    const disk = await RowanDisk.open(
      { ...parts, files },
      { folder: '/own', machine: 'm', readOnly: false, create: true }
    )
    for (let at = 0; at < 200; at++) disk.write(at * 1024, new Uint8Array(512).fill(7))
    files.events.length = 0
    await disk.write(512, new Uint8Array(512).fill(5), { fua: true })
    await disk.trim(1536, 512, { fua: true })
    const synced = () => files.events.flatMap(event => (event.kind === 'sync-end' ? [event.file] : []))
    expect(synced()).toEqual(['log', 'log'])
    await disk.flush()
    expect(synced()).toContain('data')
  })

  test('with fua that come together share one sync', async () => {
    const files = new RecordingFiles()
    const disk = await RowanDisk.open(
      { ...parts, files },
      { folder: '/shared', machine: 'm', readOnly: false, create: true }
    )
    files.events.length = 0
    await Promise.all([0, 1, 2, 3].map(at => disk.write(at * 4096, new Uint8Array(4096), { fua: true })))
    expect(files.events.filter(event => event.kind === 'sync-begin')).toHaveLength(1)
  })

  test('wait for room in the log, in order, however many there are', async () => {
    const disk = await openDisk({ limits: { logAreaBytes: 700, maxChangedPages: 100, maxLoggedBytes: 0 } })
    const writes: (void | Promise<void>)[] = []
    for (let write = 0; write < 200; write++) {
      writes.push(disk.write((write % 20) * 1024 + (write % 3) * 100, new Uint8Array(300).fill(write)))
    }
    expect(writes.some(write => write !== undefined)).toBe(true)
    await Promise.all(writes)
    const target = new Uint8Array(20 * 1024)
    disk.read(0, target)
    for (let write = 180; write < 200; write++) expect(target[(write % 20) * 1024 + (write % 3) * 100]).toBe(write)
  })
})

describe('RowanDisk: bounds and ends', () => {
  test('ranges outside are refused, empty ones are nothing', async () => {
    const disk = await openDisk()
    const outside = expect.objectContaining({ code: 'OUT_OF_RANGE' })
    for (const [offset, length] of [
      [SIZE_BYTES, 1],
      [SIZE_BYTES - 1, 2],
      [-1, 1],
      [0.5, 1],
      [Number.NaN, 1],
      [2 ** 53, 1]
    ] as const) {
      expect(() => disk.read(offset, new Uint8Array(length))).toThrow(outside)
      expect(() => disk.write(offset, new Uint8Array(length))).toThrow(outside)
      expect(() => disk.trim(offset, length)).toThrow(outside)
      expect(() => disk.writeZeroes(offset, length)).toThrow(outside)
    }
    expect(disk.read(SIZE_BYTES, new Uint8Array(0))).toBeUndefined()
    expect(disk.write(SIZE_BYTES, new Uint8Array(0))).toBeUndefined()
    expect(disk.trim(SIZE_BYTES, 0)).toBeUndefined()
  })

  test('a read-only disk needs no layer and takes no writes', async () => {
    const disk = await openDisk({ readOnly: true })
    const refused = expect.objectContaining({ code: 'READ_ONLY' })
    expect(() => disk.write(0, new Uint8Array(512))).toThrow(refused)
    expect(() => disk.trim(0, 512)).toThrow(refused)
    await disk.flush()
    const target = new Uint8Array(512)
    disk.read(0, target)
    expect(target).toEqual(expected(0, 512))
  })

  test('a machine that was written to shows its writes when it is opened read-only', async () => {
    const disk = await openDisk()
    disk.write(0, new Uint8Array(512).fill(3))
    await disk.close()
    const again = await openDisk({ readOnly: true })
    const target = new Uint8Array(512)
    again.read(0, target)
    expect(target).toEqual(new Uint8Array(512).fill(3))
  })

  test('a machine that lost its layer does not start with an empty one', async () => {
    await expect(openDisk({ create: false })).rejects.toThrow(expect.objectContaining({ code: 'LAYER_CORRUPT' }))
    await (await openDisk()).close()
    await openDisk({ create: false })
  })

  test('reads that wait when the disk is closed end, requests after it are refused', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.held = true
    const closed = expect.objectContaining({ code: 'DISK_CLOSED' })
    const read = expect(disk.read(0, new Uint8Array(1))).rejects.toThrow(closed)
    const write = expect(disk.write(1, new Uint8Array(1))).rejects.toThrow(closed)
    await disk.close()
    await Promise.all([read, write])
    expect(() => disk.read(0, new Uint8Array(1))).toThrow(closed)
    expect(() => disk.write(0, new Uint8Array(1))).toThrow(closed)
    await expect((async () => disk.flush())()).rejects.toThrow(closed)
  })
})

describe('RowanDisk: snapshots', () => {
  const request = { note: '', taken: '2026-01-02T03:04:05.678Z' }
  const sector = (value: number) => new Uint8Array(512).fill(value)
  const readSector = async (disk: RowanDisk, at: number) => {
    const target = new Uint8Array(512)
    await disk.read(at, target)
    return target[0]
  }

  test('writes before, while and after it is taken are all there, on the disk and when it is opened again', async () => {
    const disk = await openDisk()
    const writing: (void | Promise<void>)[] = [disk.write(0, sector(1))]
    const taken = [disk.snapshot(request), disk.snapshot(request)]
    for (let value = 2; value < 60; value++) {
      writing.push(disk.write((value % 7) * 512, sector(value), { fua: value % 5 === 0 }))
      if (value % 3 === 0) await settle()
    }
    await Promise.all(writing)
    expect((await Promise.all(taken)).map(({ name }) => name)).toEqual(['s1', 's2'])
    const now = [56, 57, 58, 59, 53, 54, 55]
    for (const [index, value] of now.entries()) expect(await readSector(disk, index * 512)).toBe(value)
    await disk.close()
    const again = await openDisk()
    for (const [index, value] of now.entries()) expect(await readSector(again, index * 512)).toBe(value)
    expect(await readSector(again, 7 * 512)).toBe(expected(7 * 512, 1)[0])
  })

  test('a change that waits for the network holds up the snapshot, but no other change', async () => {
    const disk = await openDisk()
    image.missing.add(0)
    image.held = true
    const slow = disk.write(10, new Uint8Array(3))
    const taken = disk.snapshot(request)
    await settle()
    expect(disk.write(4096, sector(1))).toBeUndefined()
    await settle()
    image.release()
    await slow
    await taken
    expect(disk.layers!.chain.snapshots).toHaveLength(1)
  })

  test('one that cannot be made leaves all as it was, and the disk goes on', async () => {
    const disk = await openDisk()
    await disk.write(0, sector(1))
    mkdirSync(join(folder, 'chain.json.new', 'in the way'), { recursive: true })
    await expect(disk.snapshot(request)).rejects.toMatchObject({ code: 'STORE_IO' })
    await disk.write(0, sector(2), { fua: true })
    expect(disk.layers!.chain.snapshots).toEqual([])
    expect(readdirSync(folder).sort()).toEqual(['0001', 'chain.json', 'chain.json.new'])
    rmSync(join(folder, 'chain.json.new'), { recursive: true })
    await disk.snapshot(request)
    expect(await readSector(disk, 0)).toBe(2)
  })

  test('a machine of before there were chains gets one, with all that it had', async () => {
    const disk = await openDisk()
    await disk.write(0, sector(3))
    await disk.close()
    rmSync(join(folder, 'chain.json'))
    const again = await openDisk({ create: false })
    expect(await readSector(again, 0)).toBe(3)
    await again.snapshot(request)
    await again.close()
    rmSync(join(folder, 'chain.json'))
    await expect(openDisk({ create: false })).rejects.toMatchObject({
      code: 'LAYER_CORRUPT',
      message: expect.stringContaining('chain.json is missing; there is 0001, 0002')
    })
  })

  test('a frozen layer that is missing, cut short or another machine’s is refused by name', async () => {
    const disk = await openDisk()
    await disk.write(0, sector(3))
    await disk.snapshot(request)
    await disk.write(0, sector(4))
    await disk.close()
    await expect(openDisk({ machine: 'another' })).rejects.toThrow(/chain.json: its machine is m, not another/)
    truncateSync(join(folder, '0001', 'data'), 4096)
    await expect(openDisk()).rejects.toThrow(/0001.data: it is cut short/)
    rmSync(join(folder, '0001'), { recursive: true })
    await expect(openDisk()).rejects.toMatchObject({ code: 'LAYER_CORRUPT', message: /0001.data is missing/ })
  })
})
