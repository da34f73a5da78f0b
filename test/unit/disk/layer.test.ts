import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { copyFile, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RESERVED_BYTES } from '../../../src/disk/disk-reserve.ts'
import { DEFAULT_LAYER_LIMITS, Layer, type LayerLimits } from '../../../src/disk/layer.ts'
import { LayerLog, type LogRecord } from '../../../src/disk/layer-log.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { RowanError } from '../../../src/errors.ts'
import { firstFormatLog } from './support/first-format-log.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const SIZE_BYTES = 4 * SECTORS_PER_PAGE * 512
const identity = { machine: 'machine-1', layer: '0001', image: 'image-1', sizeBytes: SIZE_BYTES }
const SMALL: LayerLimits = { logAreaBytes: 1024, maxChangedPages: 100, maxLoggedBytes: 0 }
/** Every flush is a sync of the data. */
const NOTHING_LOGGED: LayerLimits = { ...DEFAULT_LAYER_LIMITS, maxLoggedBytes: 0 }
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

const nextTurn = () => new Promise<void>(resolve => setImmediate(resolve))

describe('Layer: the order of operations', () => {
  test('writes are data, and settled together with one frame of the log; those that change no state are data alone', async () => {
    const { layer, kinds } = await simulated()
    layer.writeSync(1024, sector(1))
    layer.settle()
    const zerosMade = ['write data', 'write log', 'write log']
    expect(kinds()).toEqual(zerosMade)
    layer.writeSync(1024, sector(2))
    layer.settle()
    expect(kinds()).toEqual([...zerosMade, 'write data'])
    layer.writeSync(8192, sector(3))
    layer.zeroSync(4, 8)
    layer.zeroSync(5, 6)
    layer.settle()
    expect(kinds()).toEqual([...zerosMade, 'write data', 'write data', 'write log'])
    expect(read(layer, 1024)).toBe(2)
    expect([2, 3, 4, 7].map(at => layer.map.stateAt(at))).toEqual([
      SECTOR_DATA,
      SECTOR_ABSENT,
      SECTOR_ZERO,
      SECTOR_ZERO
    ])
  })

  test('a flush of few sectors puts them into the log, and is one fdatasync', async () => {
    const { layer, files, kinds, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    await files.finish(layer.flush())
    for (const [value, at] of [
      [2, 512],
      [3, 512]
    ] as const) {
      files.events.length = 0
      layer.writeSync(at, sector(value))
      await files.finish(layer.flush())
      expect(kinds().filter(kind => kind.startsWith('sync'))).toEqual(['sync-begin log', 'sync-end log'])
    }
    const lost = new RecordingFiles(files.disk.afterPowerLoss(() => 0))
    const { layer: after, kinds: atOpen } = await simulated(DEFAULT_LAYER_LIMITS, lost, 'another boot')
    expect([0, 1, 2].map(at => after.map.stateAt(at))).toEqual([SECTOR_DATA, SECTOR_DATA, SECTOR_ABSENT])
    expect([read(after, 0), read(after, 512)]).toEqual([1, 3])
    expect(atOpen()).toEqual([])
    expect(read((await reopen()).layer, 512)).toBe(3)
  })

  test('what is newer than a flush of few sectors is not undone by it after a flush of many', async () => {
    const { layer, files } = await simulated({ ...DEFAULT_LAYER_LIMITS, maxLoggedBytes: 512 })
    layer.writeSync(0, sector(1))
    await files.finish(layer.flush())
    layer.writeSync(0, new Uint8Array(1024).fill(2))
    await files.finish(layer.flush())
    const lost = new RecordingFiles(files.disk.afterPowerLoss(() => 0))
    const { layer: after } = await simulated(DEFAULT_LAYER_LIMITS, lost, 'another boot')
    expect([read(after, 0), read(after, 512)]).toEqual([2, 2])
  })

  test('a flush of many sectors says that they are durable once they are, and only of those before it', async () => {
    const { layer, files, kinds, reopen } = await simulated(NOTHING_LOGGED)
    layer.writeSync(512, sector(2))
    const flushed = layer.flush()
    layer.writeSync(1024, sector(3))
    layer.settle()
    await files.finish(flushed)
    const order = kinds()
    expect(order.indexOf('sync-end data')).toBeLessThan(order.lastIndexOf('write log'))
    expect(order.lastIndexOf('write log')).toBeLessThan(order.lastIndexOf('sync-end log'))
    expect(order.filter(kind => kind.endsWith('map'))).toEqual([])
    const afterPowerLoss = await reopen('another boot')
    expect([1, 2].map(at => afterPowerLoss.layer.map.stateAt(at))).toEqual([SECTOR_DATA, SECTOR_ABSENT])
    const afterDeath = await reopen()
    expect(afterDeath.layer.map.stateAt(2)).toBe(SECTOR_DATA)
  })

  test('the map file is written only once data and log are durable, and just as it was at the beginning', async () => {
    const { layer, files, kinds } = await simulated()
    layer.writeSync(0, sector(1))
    await files.finish(layer.close())
    const order = kinds()
    expect(order.indexOf('sync-end data')).toBeLessThan(order.lastIndexOf('write map'))
    expect(order.indexOf('sync-end log')).toBeLessThan(order.lastIndexOf('write map'))
    expect(order.lastIndexOf('write map')).toBeLessThan(order.lastIndexOf('sync-end map'))
    expect(order.at(-1)).toBe('sync-end log')
  })

  test('that a page exists is durable before the page is written, so none comes back from the dead', async () => {
    const { layer, files, kinds, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    await files.finish(layer.close())
    const onMap = (all: string[]) => all.filter(kind => kind.endsWith(' map'))
    const page = ['write map', 'sync-begin map', 'sync-end map']
    expect(onMap(kinds())).toEqual([...page, ...page])
    const again = await reopen('another boot')
    again.layer.writeSync(512, sector(1))
    await again.files.finish(again.layer.close())
    expect(onMap(again.kinds())).toEqual(page)
  })

  test('a flush with nothing to do touches nothing', async () => {
    const { layer, files, kinds } = await simulated()
    await layer.flush()
    layer.writeSync(0, sector(1))
    await files.finish(layer.flush())
    files.events.length = 0
    await layer.flush()
    expect(kinds()).toEqual([])
  })

  test('flushes that come while one runs share one more', async () => {
    const { layer, files, kinds } = await simulated(NOTHING_LOGGED)
    const flushes = []
    for (let round = 0; round < 5; round++) {
      layer.writeSync(round * 512, sector(round))
      flushes.push(layer.flush())
    }
    await files.finish(Promise.all(flushes))
    expect(kinds().filter(kind => kind === 'sync-end data')).toHaveLength(2)
  })

  test('syncs of one file never overlap: Linux would tell an error to only one of them', async () => {
    const { layer, files, kinds } = await simulated({ ...NOTHING_LOGGED, maxChangedPages: 2 })
    for (let round = 0; round < 6; round++) {
      layer.writeSync((round % 4) * SECTORS_PER_PAGE * 512 + round * 512, sector(round))
      layer.flush().catch(() => {})
      await files.step(1)
    }
    await files.finish(layer.close())
    for (const file of ['data', 'log', 'map']) {
      const syncs = kinds().filter(kind => kind.startsWith('sync') && kind.endsWith(file))
      expect(syncs.length).toBeGreaterThan(2)
      for (const [index, kind] of syncs.entries()) expect(kind).toMatch(index % 2 === 0 ? /^sync-begin/ : /^sync-end/)
    }
  })

  test('the first flush after opening syncs what a dead daemon may have left in the cache', async () => {
    const { layer, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    layer.settle()
    const { layer: again, files, kinds } = await reopen()
    await files.finish(again.flush())
    expect(kinds()).toContain('sync-end data')
    expect(kinds()).toContain('sync-end log')
  })
})

describe('Layer: bounds', () => {
  test('begins a checkpoint by itself before the log is full, and says when there is no room', async () => {
    const { layer, files, kinds } = await simulated(SMALL)
    let writes = 0
    while (layer.hasRoom) layer.writeSync(2 * 512 * writes++, sector(writes))
    expect(kinds()).toContain('sync-begin data')
    expect(writes).toBeLessThan((2 * SMALL.logAreaBytes) / 16)
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
    layer.settle()
    await files.step()
    const again = await reopen()
    expect(again.layer.hasRoom).toBe(false)
    await again.files.finish(again.layer.makeRoom())
    expect(again.layer.hasRoom).toBe(true)
  })

  test('many changed pages make a checkpoint, too', async () => {
    const { layer, kinds } = await simulated({ ...DEFAULT_LAYER_LIMITS, maxChangedPages: 4 })
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
    ['log', 'STORE_IO'],
    ['data', 'DISK_FULL']
  ] as const) {
    test(`after an fdatasync of ${file} that says ${code} the layer is failed, and never syncs again`, async () => {
      const { layer, files, kinds, reopen } = await simulated(NOTHING_LOGGED)
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

  test('what a flush of little promised is what was written, also where the kernel found no space for it and dropped it', async () => {
    const { layer, files, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    layer.writeSync(512, sector(2))
    layer.settle()
    // As ext4 does when it writes back by itself: the page is gone, and the next sync of the file will say so.
    files.record({ kind: 'write', file: 'data', position: 0, bytes: new Uint8Array(1024) })
    files.fault = failing('sync', 'data', 'DISK_FULL')
    await files.finish(layer.flush())
    const onDisk = new RecordingFiles(files.disk.afterPowerLoss(() => 0))
    const afterPowerLoss = await simulated(DEFAULT_LAYER_LIMITS, onDisk, 'another boot')
    expect([read(afterPowerLoss.layer, 0), read(afterPowerLoss.layer, 512)]).toEqual([1, 2])
    // Whoever goes on is told, and finds it again as it was flushed.
    await expect(files.finish(layer.close())).rejects.toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
    const again = await reopen()
    expect([read(again.layer, 0), read(again.layer, 512)]).toEqual([1, 2])
  })

  test('of what was written twice before a flush, with FUA or without, the log has the latter', async () => {
    const { layer, files } = await simulated()
    layer.writeSync(0, sector(1))
    layer.writeSync(512, sector(2))
    layer.writeSync(0, sector(3))
    await files.finish(Promise.resolve(layer.flushRange(0, 1)))
    layer.writeSync(1024, sector(4))
    await files.finish(layer.flush())
    const onDisk = new RecordingFiles(files.disk.afterPowerLoss(() => 0))
    const { layer: after } = await simulated(DEFAULT_LAYER_LIMITS, onDisk, 'another boot')
    expect([0, 512, 1024].map(position => read(after, position))).toEqual([3, 2, 4])
  })

  test('what a failed layer shows when it is opened again is durable, also where the cache had it and the disk had not', async () => {
    const { layer, files, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    let syncs = 0
    files.fault = (what, where) => {
      // The second sync of the map is the one of its pages.
      if (what === 'sync' && where === 'map' && ++syncs === 2) throw new RowanError('STORE_IO', 'injected')
    }
    await expect(files.finish(layer.close())).rejects.toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
    const again = await reopen()
    expect(again.layer.map.stateAt(0)).toBe(SECTOR_DATA)
    const onDisk = new RecordingFiles(again.files.disk.afterPowerLoss(() => 0))
    const afterPowerLoss = await simulated(DEFAULT_LAYER_LIMITS, onDisk, 'another boot')
    expect(afterPowerLoss.layer.map.stateAt(0)).toBe(SECTOR_DATA)
    expect(read(afterPowerLoss.layer, 0)).toBe(1)
  })

  test('a layer that failed is closed when nothing of it is being synced any more', async () => {
    const { layer, files } = await simulated({ ...DEFAULT_LAYER_LIMITS, maxLoggedBytes: 512 })
    await files.finish(layer.flush())
    files.gated = true
    files.fault = failing('sync', 'data', 'STORE_IO')
    layer.writeSync(0, sector(1))
    const range = layer.flushRange(0, 1)
    await nextTurn()
    // Too much for the log: its data is synced.
    for (let at = 8; at < 16; at++) layer.writeSync(at * 512, sector(2))
    const flushed = expect(layer.flush()).rejects.toThrow(expect.objectContaining({ code: 'LAYER_FAILED' }))
    await nextTurn()
    expect(files.waiting).toBe(2)
    await files.step(1)
    await flushed
    expect(layer.failure).toBeDefined()
    const closed = layer.close()
    closed.catch(() => {})
    await nextTurn()
    await files.finish(Promise.all([closed, range]))
  })

  test('a failed layer that cannot be made durable when it is opened stays closed', async () => {
    const { layer, files } = await simulated(NOTHING_LOGGED)
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
      // The log has no space made yet when its first entry comes.
      if (file === 'data') layer.writeSync(0, sector(1))
      layer.settle()
      files.fault = failing('write', file, 'DISK_FULL')
      expect(() => write(layer)).toThrow(expect.objectContaining({ code: 'DISK_FULL' }))
      layer.settle()
      const dead = await reopen()
      for (const now of [layer, dead.layer]) {
        expect(now.map.stateAt(0)).toBe(file === 'data' ? SECTOR_DATA : SECTOR_ABSENT)
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

  test('a full disk under the map is no matter of a flush; the next checkpoint makes up for it', async () => {
    const { layer, files, reopen } = await simulated({ ...SMALL, maxLoggedBytes: 512 })
    files.fault = failing('write', 'map', 'DISK_FULL')
    let writes = 0
    for (; layer.hasRoom; writes++) layer.writeSync(2 * 512 * writes, sector(writes))
    await files.finish(layer.flush())
    await expect(files.finish(layer.makeRoom())).rejects.toThrow(expect.objectContaining({ code: 'DISK_FULL' }))
    files.fault = () => {}
    await files.finish(layer.makeRoom())
    layer.writeSync(2 * 512 * writes, sector(1))
    await files.finish(layer.flush())
    const { layer: again } = await reopen('another boot')
    for (let write = 0; write <= writes; write++) expect(again.map.stateAt(2 * write)).toBe(SECTOR_DATA)
  })

  test('a frame of the log that cannot be written is settled later; nothing may be acknowledged until then', async () => {
    const { layer, files, reopen } = await simulated()
    layer.writeSync(0, sector(1))
    files.fault = failing('write', 'log', 'STORE_IO')
    expect(() => layer.settle()).toThrow(expect.objectContaining({ code: 'STORE_IO' }))
    files.fault = () => {}
    layer.settle()
    expect((await reopen()).layer.map.stateAt(0)).toBe(SECTOR_DATA)
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
    await (await open()).close()
    expect(statSync(join(folder, '0001', 'log')).blocks * 512).toBeLessThan(20_000)
    const layer = await open()
    layer.writeSync(8 * 512, sector(7))
    await layer.close()
    for (const name of ['data', 'map', 'log']) {
      const stats = statSync(join(folder, '0001', name))
      expect(stats.mode & 0o777).toBe(0o600)
      expect(stats.blocks * 512).toBeLessThan(200_000)
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

  describe('with a log of the first format', () => {
    const records: LogRecord[] = [
      { start: 8, count: 1, state: SECTOR_DATA },
      { start: 20, count: 4, state: SECTOR_ZERO }
    ]
    const states = (layer: Layer) => [8, 20, 24].map(at => layer.map.stateAt(at))
    const put = (settings: { bootId: string; failed?: boolean }) =>
      writeFileSync(join(folder, '0001', 'log'), firstFormatLog(identity, { ...settings, records }))

    test('open with what was acknowledged under this boot, and go on with a log of the present one', async () => {
      put({ bootId: 'boot' })
      const layer = await open()
      expect(states(layer)).toEqual([SECTOR_DATA, SECTOR_ZERO, SECTOR_ABSENT])
      layer.writeSync(24 * 512, sector(9))
      await layer.close()
      expect(statSync(join(folder, '0001', 'log')).size).toBe(LayerLog.sizeBytes(DEFAULT_LAYER_LIMITS.logAreaBytes))
      const again = await Layer.open({ log, bootId: 'another' }, join(folder, '0001'), identity)
      expect(states(again)).toEqual([SECTOR_DATA, SECTOR_ZERO, SECTOR_DATA])
      await again.close()
    })

    test('open without what another boot, or a failed layer, left unflushed', async () => {
      for (const settings of [{ bootId: 'another' }, { bootId: 'boot', failed: true }]) {
        put(settings)
        const layer = await open()
        expect(states(layer)).toEqual([SECTOR_ABSENT, SECTOR_ABSENT, SECTOR_ABSENT])
        await layer.close()
      }
    })

    test('are refused when that log is another machine’s or cut short, and stay as they were', async () => {
      put({ bootId: 'boot' })
      const path = join(folder, '0001', 'log')
      const bytes = readFileSync(path)
      writeFileSync(path, bytes.subarray(0, 8192))
      await expect(open()).rejects.toThrow(expect.objectContaining({ code: 'LAYER_CORRUPT' }))
      writeFileSync(path, firstFormatLog({ ...identity, machine: 'machine-2' }, { bootId: 'boot', records }))
      await expect(open()).rejects.toThrow('its machine is "machine-2", not "machine-1"')
      writeFileSync(path, bytes)
      const layer = await open()
      expect(states(layer)).toEqual([SECTOR_DATA, SECTOR_ZERO, SECTOR_ABSENT])
      await layer.close()
    })
  })
})
