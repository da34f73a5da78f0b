import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { HolePuncher } from '../../../src/disk/hole-puncher.ts'
import type { FileRange } from '../../../src/disk/punch-tool.ts'
import { RowanDisk, type RowanDiskSettings } from '../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../src/errors.ts'
import { findTool } from '../../tools/need.ts'
import { components, TestImage } from './support/test-image.ts'

const MIB = 1024 * 1024
const SIZE_BYTES = 2048 * MIB

let folder: string
let disk: RowanDisk
let parts: ReturnType<typeof components>

beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'rowan-punch-')), 'layers')
  parts = components(new TestImage(SIZE_BYTES))
})
afterEach(async () => {
  vi.restoreAllMocks()
  await disk.close()
  rmSync(join(folder, '..'), { recursive: true })
})

async function open(more: object = {}, settings: Partial<RowanDiskSettings> = {}): Promise<void> {
  const given = { folder, machine: 'm', readOnly: false, create: true, ...settings }
  disk = await RowanDisk.open({ ...parts, ...more }, given)
}

/** As `du` counts. */
const takenBytes = (layer = '0001') => statSync(join(folder, layer, 'data')).blocks * 512

async function fill(start: number, length: number): Promise<void> {
  const chunk = Buffer.alloc(MIB, 7)
  for (let at = start; at < start + length; at += MIB) {
    await disk.write(at, chunk.subarray(0, Math.min(MIB, start + length - at)))
  }
}

/** A puncher that a test holds: what it was asked for, and when it is done. */
function heldPuncher() {
  const asked: FileRange[][] = []
  let release = () => {}
  const punch = (_path: string, ranges: readonly FileRange[]) => {
    asked.push([...ranges])
    return new Promise<void>(resolve => {
      release = resolve
    })
  }
  return { asked, punch, release: () => release() }
}

const settle = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise(resolve => setImmediate(resolve))
}

describe.skipIf(findTool('fallocate') === undefined)('a trimmed disk', () => {
  test('takes less on the host: 256 MiB that were written and trimmed are given back, and what is around it stays', async () => {
    await open()
    await fill(0, 256 * MIB + 2 * MIB)
    await disk.flush()
    const before = takenBytes()
    expect(before).toBeGreaterThan(256 * MIB)
    await disk.trim(MIB + 512, 256 * MIB)
    await expect.poll(() => takenBytes()).toBeLessThan(before - 255 * MIB)
    const edge = new Uint8Array(1024)
    await disk.read(MIB, edge)
    expect([edge[0], edge[511], edge[512], edge[1023]]).toEqual([7, 7, 0, 0])
    await disk.read(257 * MIB, edge)
    expect([edge[0], edge[511], edge[512]]).toEqual([0, 0, 7])
  })

  test('keeps what is written to it again at once', async () => {
    await open()
    await fill(0, 16 * MIB)
    for (let round = 0; round < 20; round++) {
      const at = (round % 4) * 4 * MIB
      const trimmed = disk.trim(at, 4 * MIB)
      const writing = [disk.write(at + MIB, Buffer.alloc(8192, round + 1)), trimmed]
      await new Promise(resolve => setTimeout(resolve, round % 5))
      await Promise.all([...writing, disk.write(at + 2 * MIB, Buffer.alloc(512, round + 1))])
    }
    for (let place = 0; place < 4; place++) {
      const found = new Uint8Array(8192)
      await disk.read(place * 4 * MIB + MIB, found)
      expect(new Set(found)).toEqual(new Set([17 + place]))
      await disk.read(place * 4 * MIB + 2 * MIB, found.subarray(0, 512))
      expect(found[0]).toBe(17 + place)
    }
  })
})

describe('punching', () => {
  test('is for whole blocks that had data, and not for what shall stay reserved', async () => {
    const { asked, punch, release } = heldPuncher()
    await open({ punch })
    await fill(0, MIB)
    await disk.trim(MIB, MIB)
    await disk.writeZeroes(0, 65_536, { noHole: true })
    await settle()
    expect(asked).toEqual([])
    await disk.trim(100_000, 9000)
    await disk.trim(300_000, 100)
    await settle()
    expect(asked).toEqual([[{ startBytes: 102_400, lengthBytes: 4096 }]])
    release()
  })

  test('holds up writes to the very sectors, until it is done, and no others', async () => {
    const { asked, punch, release } = heldPuncher()
    await open({ punch })
    await fill(0, MIB)
    await disk.trim(0, 8192)
    await disk.trim(4096, 65_536)
    await settle()
    expect(asked).toHaveLength(1)
    expect(disk.write(500_000, Buffer.alloc(512))).toBeUndefined()
    let done = false
    const late = Promise.resolve(disk.write(0, Buffer.alloc(512, 9))).then(() => {
      done = true
    })
    await settle()
    expect(done).toBe(false)
    release()
    await late
    const found = new Uint8Array(512)
    await disk.read(0, found)
    expect(found[0]).toBe(9)
  })

  test('lets a snapshot have its turn, however much is trimmed meanwhile', async () => {
    let punched = 0
    /** Of them, while the snapshot waits. */
    let meanwhile: number | undefined
    let isOver = false
    const punch = async () => {
      punched++
      if (meanwhile !== undefined) meanwhile++
      await new Promise(resolve => setImmediate(resolve))
      // A guest that deletes and deletes.
      const at = (punched % 8) * 131_072
      if (!isOver && (meanwhile ?? 0) < 3000)
        void Promise.resolve(disk.write(at, Buffer.alloc(65_536, 1))).then(() => disk.trim(at, 65_536))
    }
    await open({ punch })
    await fill(0, MIB)
    await disk.trim(0, 65_536)
    await disk.trim(131_072, 65_536)
    await expect.poll(() => punched).toBeGreaterThan(0)
    meanwhile = 0
    await disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    expect(meanwhile).toBeLessThan(3000)
    meanwhile = undefined
    // It goes on behind it.
    const then = punched
    await fill(0, MIB)
    await disk.trim(0, 65_536)
    await expect.poll(() => punched).toBeGreaterThan(then)
    isOver = true
    await settle()
  })

  test('keeps a snapshot waiting for one batch, however much was trimmed before it; the rest is given back all the same', async () => {
    const asked: { layer: string; ranges: readonly FileRange[] }[] = []
    const first = Promise.withResolvers<void>()
    const punch = async (path: string, ranges: readonly FileRange[]) => {
      asked.push({ layer: basename(dirname(path)), ranges })
      if (asked.length === 1) await first.promise
    }
    const pause = vi.spyOn(HolePuncher.prototype, 'pause')
    await open({ punch })
    await fill(0, 16 * MIB)
    for (let at = 0; at < 16 * MIB; at += 16_384) await disk.trim(at, 8192)
    const snapshot = disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    await vi.waitUntil(() => asked.length > 0 && pause.mock.calls.length > 0)
    first.resolve()
    await snapshot
    expect(asked).toHaveLength(1)
    // Nobody is at the frozen layer any more but whoever reads it; the new one keeps what it is written.
    await disk.write(0, Buffer.alloc(8192, 9))
    await disk.close()
    expect(new Set(asked.map(({ layer }) => layer))).toEqual(new Set(['0001']))
    const punched = asked.flatMap(({ ranges }) => ranges.map(({ startBytes }) => startBytes))
    expect(punched.sort((a, b) => a - b)).toEqual(Array.from({ length: 1024 }, (_, index) => index * 16_384))
  })

  test('of a layer that was frozen meanwhile gives back its space, and loses nothing else of it', async () => {
    if (findTool('fallocate') === undefined) return
    await open()
    await fill(0, 16 * MIB)
    for (let at = 0; at < 16 * MIB; at += 131_072) disk.trim(at, 65_536)
    await disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    expect(takenBytes()).toBeGreaterThan(12 * MIB)
    await disk.close()
    expect(takenBytes()).toBeLessThan(9 * MIB)
    await open()
    const found = new Uint8Array(16 * MIB)
    await disk.read(0, found)
    for (let at = 0; at < 16 * MIB; at += 65_536)
      expect([found[at], found[at + 65_535]]).toEqual(at % 131_072 === 0 ? [0, 0] : [7, 7])
  })

  test.each(['under the top', 'of a branch that was left'])(
    'gives back what only a discarded snapshot had kept, once layers %s are merged',
    async where => {
      if (findTool('fallocate') === undefined) return
      const request = { note: '', taken: '2026-01-02T03:04:05.678Z' }
      const isLeft = where !== 'under the top'
      await open()
      if (isLeft) await disk.snapshot(request)
      await fill(0, 24 * MIB)
      await disk.snapshot(request)
      await disk.trim(MIB, 20 * MIB)
      // The page of the map that was begun, as that which is full of zeros.
      await disk.write(2 * MIB, Buffer.alloc(8192, 9))
      await disk.snapshot(request)
      if (isLeft) {
        await disk.layers!.rollback('s1', request)
        await disk.close()
        await open()
      }
      expect(takenBytes()).toBeGreaterThan(24 * MIB)
      await disk.discard(isLeft ? 's2' : 's1')
      const pace = { signal: new AbortController().signal, breathe: async () => {} }
      await disk.layers!.compaction.run(pace)
      expect(disk.layers!.chain.disks.system.layers).toHaveLength(2)
      expect(takenBytes()).toBeLessThan(5 * MIB)
      if (isLeft) {
        await disk.layers!.rollback('s3', request)
        await disk.close()
        await open()
      }
      const found = new Uint8Array(24 * MIB)
      await disk.read(0, found)
      const at = (mib: number, more = 0) => found[mib * MIB + more]
      expect([at(0), at(1), at(2), at(2, 8191), at(2, 8192), at(20), at(21)]).toEqual([7, 0, 9, 9, 0, 0, 7])
    }
  )

  test('of a frozen layer and a merge are never at work at one time', async () => {
    const { asked, punch, release } = heldPuncher()
    await open({ punch })
    const taken = '2026-01-02T03:04:05.678Z'
    await fill(0, MIB)
    await disk.snapshot({ note: '', taken })
    await fill(0, MIB)
    await disk.writeZeroes(0, 65_536, { noHole: true })
    await disk.snapshot({ note: '', taken })
    await disk.write(MIB, Buffer.alloc(4096, 1))
    await disk.snapshot({ note: '', taken })
    await disk.discard('s1')
    disk.layers!.compaction.leaveHoles('system', '0002', 0, 128)
    let isOver = false
    const pace = { signal: new AbortController().signal, breathe: async () => {} }
    const upkeep = disk.layers!.compaction.run(pace).then(() => {
      isOver = true
    })
    await expect.poll(() => asked.length).toBe(1)
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(isOver).toBe(false)
    expect(disk.layers!.chain.disks.system.layers).toHaveLength(4)
    release()
    // What the merge makes zero is punched behind it.
    await expect.poll(() => asked.length).toBe(2)
    expect(disk.layers!.chain.disks.system.layers).toHaveLength(3)
    release()
    await upkeep
    const found = new Uint8Array(MIB)
    await disk.read(0, found)
    expect([found[0], found[65_535], found[65_536]]).toEqual([0, 0, 7])
  })

  test('leaves alone what was written again', async () => {
    const { asked, punch } = heldPuncher()
    await open({ punch })
    await fill(0, MIB)
    const trimmed = disk.trim(0, 65_536)
    await disk.write(0, Buffer.alloc(65_536, 1))
    await trimmed
    await settle()
    expect(asked).toEqual([])
  })

  test('is given up, and said once, where it cannot be done', async () => {
    const punch = async () => {
      throw new RowanError('TOOL_MISSING', 'no space is given back by trims: fallocate: not found')
    }
    await open({ punch })
    await fill(0, MIB)
    for (let at = 0; at < MIB; at += 65_536) {
      await disk.trim(at, 4096)
      await settle()
    }
    expect(parts.warnings.filter(({ message }) => message.includes('given back'))).toHaveLength(1)
  })
})

describe('a quota for layers', () => {
  test('stops a guest with ENOSPC before the disk is full; what was written stays and can be overwritten', async () => {
    await open({}, { quotaBytes: 24 * MIB })
    await fill(0, 20 * MIB)
    await disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    await fill(0, 3 * MIB)
    await expect(fill(100 * MIB, 8 * MIB)).rejects.toMatchObject({ code: 'LAYERS_FULL' })
    expect(takenBytes('0001') + takenBytes('0002')).toBeLessThan(25 * MIB)
    await fill(0, 3 * MIB)
    await disk.flush()
    const found = new Uint8Array(512)
    await disk.read(19 * MIB, found)
    expect(found[0]).toBe(7)
  })

  test('counts the log, which flushes of little fill with content', async () => {
    await open({}, { quotaBytes: 12 * MIB })
    const sector = Buffer.alloc(4096, 1)
    for (let flush = 0; flush < 1500; flush++) {
      await disk.write(0, sector)
      await disk.flush()
    }
    expect(takenBytes('0001')).toBeLessThan(MIB)
    await expect(fill(MIB, 8 * MIB)).rejects.toMatchObject({ code: 'LAYERS_FULL' })
  })

  test('counts what was frozen before the disk was opened', async () => {
    await open({}, { quotaBytes: 12 * MIB })
    await disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    await fill(0, 8 * MIB)
    await disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    await disk.close()
    await open({}, { quotaBytes: 12 * MIB })
    await expect(fill(16 * MIB, 8 * MIB)).rejects.toMatchObject({ code: 'LAYERS_FULL' })
    expect(disk.layers!.allocatedBytes).toBeGreaterThan(8 * MIB)
  })
})
