import { mkdtempSync, rmSync, statSync, truncateSync, unlinkSync } from 'node:fs'
import { copyFile, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RESERVED_BYTES } from '../../../src/disk/disk-reserve.ts'
import { DEFAULT_LAYER_LIMITS, Layer, type LayerLimits } from '../../../src/disk/layer.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { RowanError } from '../../../src/errors.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const SIZE_BYTES = 4 * SECTORS_PER_PAGE * 512
const identity = { machine: 'machine-1', layer: '0001', image: 'image-1', sizeBytes: SIZE_BYTES }
const SMALL: LayerLimits = { logAreaRecords: 8, maxChangedPages: 100 }
const { log, warnings } = components(new TestImage(SIZE_BYTES))

let folders = 0

/** A layer over simulated files, on which whatever waits for the disk waits for the test. */
async function simulated(limits = DEFAULT_LAYER_LIMITS, from = new RecordingFiles(), bootId = 'boot') {
  const folder = `/layers-${folders++}/0001`
  if (from.disk.files.size === 0) await Layer.create(folder, identity, from, limits)
  const layer = await Layer.open({ log, bootId, files: from }, folder, identity, limits)
  from.events.length = 0
  from.gated = true
  const reopen = (boot = bootId) => simulated(limits, new RecordingFiles(from.disk.clone()), boot)
  return {
    layer,
    files: from,
    reopen,
    kinds: () => from.events.map(event => ('file' in event ? `${event.kind} ${event.file}` : ''))
  }
}

const sector = (value: number) => new Uint8Array(512).fill(value)

function read(layer: Layer, position: number): number {
  const target = new Uint8Array(512)
  layer.readSync(target, 0, 512, position)
  return target[0]!
}

describe('Layer: the order of operations', () => {
  test('a write is data, then a record of the log; one that changes nothing in the map is data alone', async () => {
    const { layer, kinds } = await simulated()
    layer.writeSync(1024, sector(1))
    layer.writeSync(1024, sector(2))
    layer.zeroSync(4, 8)
    layer.zeroSync(5, 6)
    expect(kinds()).toEqual(['write data', 'write log', 'write data', 'write log'])
    expect(read(layer, 1024)).toBe(2)
    expect([2, 3, 4, 7].map(at => layer.map.stateAt(at))).toEqual([
      SECTOR_DATA,
      SECTOR_ABSENT,
      SECTOR_ZERO,
      SECTOR_ZERO
    ])
  })

  test('a flush writes the map only once the data is durable, and then just what the map was at its beginning', async () => {
    const { layer, files, kinds, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    await files.finish(layer.flush())
    files.events.length = 0
    layer.writeSync(512, sector(2))
    const flushed = layer.flush()
    layer.writeSync(1024, sector(3))
    await files.finish(flushed)
    const order = kinds()
    expect(order.indexOf('sync-end data')).toBeLessThan(order.indexOf('write map'))
    expect(order.lastIndexOf('write map')).toBeLessThan(order.lastIndexOf('sync-end map'))
    const afterPowerLoss = await reopen('another boot')
    expect([0, 1, 2].map(at => afterPowerLoss.layer.map.stateAt(at))).toEqual([SECTOR_DATA, SECTOR_DATA, SECTOR_ABSENT])
    const afterDeath = await reopen()
    expect(afterDeath.layer.map.stateAt(2)).toBe(SECTOR_DATA)
  })

  test('that a page exists is durable before the page is written, so none comes back from the dead', async () => {
    const { layer, files, kinds } = await simulated()
    await files.finish(layer.flush())
    for (const pageIsNew of [true, false]) {
      files.events.length = 0
      layer.writeSync(pageIsNew ? 0 : 512, sector(1))
      await files.finish(layer.flush())
      const onMap = kinds().filter(kind => kind.endsWith(' map'))
      const page = ['write map', 'sync-begin map', 'sync-end map']
      expect(onMap).toEqual(pageIsNew ? [...page, ...page] : page)
    }
  })

  test('a flush with nothing to do touches nothing', async () => {
    const { layer, files, kinds } = await simulated()
    layer.writeSync(0, sector(1))
    await files.finish(layer.flush())
    files.events.length = 0
    await layer.flush()
    expect(kinds()).toEqual([])
  })

  test('a flush of sectors that the map knows is one fdatasync', async () => {
    const { layer, files, kinds } = await simulated()
    layer.writeSync(0, sector(1))
    await files.finish(layer.flush())
    files.events.length = 0
    layer.writeSync(0, sector(2))
    await files.finish(layer.flush())
    expect(kinds()).toEqual(['write data', 'sync-begin data', 'sync-end data'])
  })

  test('flushes that come while one runs share one more', async () => {
    const { layer, files, kinds } = await simulated()
    const flushes = []
    for (let round = 0; round < 5; round++) {
      layer.writeSync(round * 512, sector(round))
      flushes.push(layer.flush())
    }
    await files.finish(Promise.all(flushes))
    expect(kinds().filter(kind => kind === 'sync-end data')).toHaveLength(2)
  })

  test('the first flush after opening syncs what a dead daemon may have left in the cache', async () => {
    const { layer, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    const { layer: again, files, kinds } = await reopen()
    await files.finish(again.flush())
    expect(kinds()).toContain('sync-end data')
    expect(kinds()).toContain('sync-end map')
  })
})

describe('Layer: bounds', () => {
  test('flushes by itself before the log is full, and says when there is no room', async () => {
    const { layer, files, kinds } = await simulated(SMALL)
    let writes = 0
    while (layer.hasRoom) layer.writeSync(2 * 512 * writes++, sector(writes))
    expect(kinds()).toContain('sync-begin data')
    expect(writes).toBeLessThan(2 * SMALL.logAreaRecords)
    await files.finish(layer.makeRoom())
    expect(layer.hasRoom).toBe(true)
    for (let round = 0; round < 50; round++) {
      if (!layer.hasRoom) await files.finish(layer.makeRoom())
      layer.writeSync(2 * 512 * writes++, sector(writes))
    }
  })

  test('makes room also when both areas of the log came full from a dead daemon', async () => {
    const { layer, files, reopen } = await simulated(SMALL)
    for (let writes = 0; layer.hasRoom; writes++) layer.writeSync(2 * 512 * writes, sector(writes))
    await files.step()
    const again = await reopen()
    expect(again.layer.hasRoom).toBe(false)
    await again.files.finish(again.layer.makeRoom())
    expect(again.layer.hasRoom).toBe(true)
  })

  test('many changed pages make a flush, too', async () => {
    const { layer, kinds } = await simulated({ logAreaRecords: 1000, maxChangedPages: 4 })
    layer.writeSync(0, sector(1))
    expect(kinds()).not.toContain('sync-begin data')
    layer.writeSync(SECTORS_PER_PAGE * 512, sector(1))
    expect(kinds()).toContain('sync-begin data')
  })
})

describe('Layer: errors', () => {
  const failing =
    (operation: string, file: string, code: 'STORE_IO' | 'DISK_FULL') => (what: string, where: string) => {
      if (what === operation && where === file) throw new RowanError(code, 'injected')
    }

  for (const [file, code] of [
    ['data', 'STORE_IO'],
    ['map', 'STORE_IO'],
    ['data', 'DISK_FULL']
  ] as const) {
    test(`after an fdatasync of ${file} that says ${code} the layer is failed, and never syncs again`, async () => {
      const { layer, files, kinds, reopen } = await simulated()
      layer.writeSync(0, sector(1))
      await files.finish(layer.flush())
      layer.writeSync(512, sector(2))
      files.fault = failing('sync', file, code)
      const both = Promise.allSettled([layer.flush(), layer.flush()])
      const failed = expect.objectContaining({ code: 'LAYER_FAILED' })
      for (const result of await files.finish(both))
        expect(result).toMatchObject({ status: 'rejected', reason: failed })
      files.fault = () => {}
      files.events.length = 0
      expect(() => layer.writeSync(0, sector(3))).toThrow(failed)
      expect(() => layer.zeroSync(0, 1)).toThrow(failed)
      await expect(layer.flush()).rejects.toThrow(failed)
      expect(read(layer, 0)).toBe(1)
      await layer.close()
      expect(kinds()).toEqual([])
      expect(warnings.at(-1)!.message).toContain('takes no more writes')

      const again = await reopen()
      expect(read(again.layer, 0)).toBe(1)
      expect(again.layer.map.stateAt(0)).toBe(SECTOR_DATA)
      again.layer.writeSync(512, sector(4))
      await again.files.finish(again.layer.flush())
    })
  }

  test('what a failed layer shows when it is opened again is durable, also where the cache had it and the disk had not', async () => {
    const { layer, files, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    let syncs = 0
    files.fault = (what, where) => {
      // The second sync of the map is the one of its pages.
      if (what === 'sync' && where === 'map' && ++syncs === 2) throw new RowanError('STORE_IO', 'injected')
    }
    await expect(files.finish(layer.flush())).rejects.toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
    const again = await reopen()
    expect(again.layer.map.stateAt(0)).toBe(SECTOR_DATA)
    const onDisk = new RecordingFiles(again.files.disk.afterPowerLoss(() => 0))
    const afterPowerLoss = await simulated(DEFAULT_LAYER_LIMITS, onDisk, 'another boot')
    expect(afterPowerLoss.layer.map.stateAt(0)).toBe(SECTOR_DATA)
    expect(read(afterPowerLoss.layer, 0)).toBe(1)
  })

  test('a failed layer that cannot be made durable when it is opened stays closed', async () => {
    const { layer, files } = await simulated()
    layer.writeSync(0, sector(1))
    files.fault = failing('sync', 'data', 'STORE_IO')
    await expect(files.finish(layer.flush())).rejects.toThrow()
    const next = new RecordingFiles(files.disk.clone())
    next.fault = failing('sync', 'map', 'STORE_IO')
    await expect(simulated(DEFAULT_LAYER_LIMITS, next)).rejects.toThrow(
      expect.objectContaining({ code: 'LAYER_FAILED' })
    )
  })

  for (const [file, write] of [
    ['data', (layer: Layer) => layer.writeSync(512, sector(2))],
    ['log', (layer: Layer) => layer.writeSync(512, sector(2))],
    ['log', (layer: Layer) => layer.zeroSync(0, 1)]
  ] as const) {
    test(`a full disk under a write of ${file}: the write fails, nothing else is lost, and it can be repeated`, async () => {
      const { layer, files, reopen } = await simulated()
      layer.writeSync(0, sector(1))
      files.fault = failing('write', file, 'DISK_FULL')
      expect(() => write(layer)).toThrow(expect.objectContaining({ code: 'DISK_FULL' }))
      const dead = await reopen()
      for (const now of [layer, dead.layer]) {
        expect(now.map.stateAt(0)).toBe(SECTOR_DATA)
        expect(now.map.stateAt(1)).toBe(SECTOR_ABSENT)
      }
      files.fault = () => {}
      write(layer)
      await files.finish(layer.flush())
      expect(layer.failure).toBeUndefined()
    })
  }

  test('writes to new sectors leave the reserve free; changes of old ones and zeros need no space', async () => {
    const { layer, files } = await simulated()
    const full = expect.objectContaining({ code: 'DISK_FULL' })
    files.free = RESERVED_BYTES + 1024
    layer.writeSync(0, sector(1))
    layer.writeSync(512, sector(1))
    files.free = RESERVED_BYTES
    expect(() => layer.writeSync(1024, sector(1))).toThrow(full)
    expect(layer.map.stateAt(2)).toBe(SECTOR_ABSENT)
    layer.writeSync(0, sector(2))
    layer.zeroSync(2, 8)
    await files.finish(layer.flush())
    files.free = RESERVED_BYTES + 512
    layer.writeSync(1024, sector(1))
    expect([read(layer, 0), read(layer, 1024)]).toEqual([2, 1])
    expect(() => layer.writeSync(4096, new Uint8Array(1024))).toThrow(full)
  })

  test('a full disk under the map: the flush fails, and the next one makes up for it', async () => {
    const { layer, files, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    files.fault = failing('write', 'map', 'DISK_FULL')
    await expect(files.finish(layer.flush())).rejects.toThrow(expect.objectContaining({ code: 'DISK_FULL' }))
    layer.writeSync(512, sector(2))
    files.fault = () => {}
    await files.finish(layer.flush())
    const { layer: again } = await reopen('another boot')
    expect([0, 1, 2].map(at => again.map.stateAt(at))).toEqual([SECTOR_DATA, SECTOR_DATA, SECTOR_ABSENT])
  })

  test('writes and flushes after close say DISK_CLOSED', async () => {
    const { layer, files } = await simulated()
    await files.finish(layer.close())
    const closed = expect.objectContaining({ code: 'DISK_CLOSED' })
    expect(() => layer.writeSync(0, sector(1))).toThrow(closed)
    await expect(layer.flush()).rejects.toThrow(closed)
    await layer.close()
  })
})

describe('Layer: real files', () => {
  let folder: string
  const open = (other = {}) => Layer.open({ log, bootId: 'boot' }, join(folder, '0001'), { ...identity, ...other })
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'rowan-layer-'))
    await Layer.create(join(folder, '0001'), identity)
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  test('are sparse, private, and hold what was written', async () => {
    const layer = await open()
    layer.writeSync(8 * 512, sector(7))
    await layer.close()
    for (const name of ['data', 'map', 'log']) {
      const stats = statSync(join(folder, '0001', name))
      expect(stats.mode & 0o777).toBe(0o600)
      expect(stats.blocks * 512).toBeLessThan(100_000)
    }
    const again = await open()
    expect(read(again, 8 * 512)).toBe(7)
    expect(again.map.runEnd(8, 100)).toBe(9)
    await again.close()
  })

  test('are open only once in a process', async () => {
    const layer = await open()
    await expect(open()).rejects.toThrow(expect.objectContaining({ code: 'LAYER_IN_USE' }))
    await layer.close()
    await (await open()).close()
  })

  for (const name of ['data', 'map', 'log']) {
    const corrupt = expect.objectContaining({
      code: 'LAYER_CORRUPT',
      message: expect.stringContaining(join('0001', name))
    })

    test(`${name} missing, cut short, too long or empty is refused by name`, async () => {
      const path = join(folder, '0001', name)
      const { size } = statSync(path)
      for (const length of [size - 1, size - 4096, size + 4096, 0]) {
        truncateSync(path, length)
        await expect(open()).rejects.toThrow(corrupt)
      }
      unlinkSync(path)
      await expect(open()).rejects.toThrow(corrupt)
    })

    test(`${name} of another machine or with a damaged header is refused by name`, async () => {
      await mkdir(join(folder, 'other'))
      await Layer.create(join(folder, 'other', '0001'), { ...identity, machine: 'machine-2' })
      await copyFile(join(folder, 'other', '0001', name), join(folder, '0001', name))
      await expect(open()).rejects.toThrow(corrupt)
      await expect(open()).rejects.toThrow('its machine is "machine-2", not "machine-1"')
    })
  }

  test('what an interrupted creation left is no obstacle', async () => {
    await mkdir(join(folder, '0002.new'))
    await copyFile(join(folder, '0001', 'map'), join(folder, '0002.new', 'map'))
    await Layer.create(join(folder, '0002'), { ...identity, layer: '0002' })
    expect(statSync(join(folder, '0002')).isDirectory()).toBe(true)
  })
})
