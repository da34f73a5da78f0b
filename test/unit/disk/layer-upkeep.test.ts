import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Hold } from '../../../src/disk/disk-changes.ts'
import { LayerUpkeep } from '../../../src/disk/layer-upkeep.ts'
import type { MachineLayers } from '../../../src/disk/machine-layers.ts'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { beginPace, nextWait, QUIET_MS } from '../../../src/disk/upkeep-pace.ts'
import { RowanError } from '../../../src/errors.ts'
import { waitUntil } from '../../tools/wait.ts'
import { HeldClock } from './support/held-clock.ts'
import { components, TestImage } from './support/test-image.ts'

const HOLD: Hold = work => work()

describe('the pace of work at layers', () => {
  const look = { workedMs: 0, urgent: false, requests: 5 }

  test('waits until a guest has been still for a while', () => {
    let state = beginPace(1000, 5)
    const at = (nowMs: number, requests: number) => {
      const next = nextWait(state, { ...look, nowMs, requests })
      state = next.state
      return next.waitMs
    }
    expect(at(1000 + QUIET_MS - 1, 5)).toBeGreaterThan(0)
    expect(at(1000 + QUIET_MS, 5)).toBe(0)
    expect(at(1010 + QUIET_MS, 6)).toBeGreaterThan(0)
    expect(at(1010 + 2 * QUIET_MS, 6)).toBe(0)
  })

  test('rests as long as it worked', () => {
    expect(nextWait(beginPace(0, 5), { ...look, nowMs: 9000, workedMs: 70 }).waitMs).toBe(70)
  })

  test('never ends for a busy guest, unless the layers come near their limit', () => {
    for (const urgent of [false, true]) {
      let state = beginPace(0, 0)
      let pieces = 0
      for (let nowMs = 0; nowMs < 10_000; nowMs += 50) {
        const next = nextWait(state, { nowMs, requests: nowMs, workedMs: 0, urgent })
        state = next.state
        if (next.waitMs > 0) continue
        pieces++
        state = nextWait(state, { nowMs, requests: nowMs, workedMs: 10, urgent }).state
      }
      expect(pieces).toBe(urgent ? 9 : 0)
    }
  })
})

describe('merging in the background', () => {
  let folder: string
  let disk: RowanDisk
  const layers = () => readdirSync(folder).filter(name => /^\d{4}$/.test(name))
  beforeEach(async () => {
    folder = join(mkdtempSync(join(tmpdir(), 'rowan-upkeep-')), 'layers')
    const parts = components(new TestImage(4 * 1024 * 1024))
    disk = await RowanDisk.open(
      { ...parts, clock: { monotonicMs: () => 0 } },
      { folder, machine: 'm', readOnly: false, create: true }
    )
    for (let value = 1; value <= 3; value++) {
      await disk.write(value * 512, new Uint8Array(1024 * 1024).fill(value))
      await disk.snapshot({ note: '', taken: '2026-01-02T03:04:05.678Z' })
    }
    await disk.discard('s1')
    await disk.discard('s2')
  })
  afterEach(async () => {
    await disk.close()
    rmSync(join(folder, '..'), { recursive: true })
  })

  test('waits for a busy guest, and is done once there is none', async () => {
    const clock = new HeldClock()
    const { log } = components(new TestImage(0))
    let requests = 0
    const upkeep = new LayerUpkeep({ layers: disk.layers!, hold: HOLD, requests: () => requests, clock, log })
    upkeep.wake()
    for (let turn = 0; turn < 30; turn++) {
      requests++
      await clock.pass(50)
    }
    expect(layers()).toHaveLength(4)
    while (layers().length > 2) await clock.pass(50)
    await upkeep.idle()
    const target = new Uint8Array(3 * 512)
    await disk.read(512, target)
    expect([target[0], target[512], target[1024]]).toEqual([1, 2, 3])
  })

  test('stops between two pieces when the disk is closed', async () => {
    const clock = new HeldClock()
    const { log } = components(new TestImage(0))
    const upkeep = new LayerUpkeep({ layers: disk.layers!, hold: HOLD, requests: () => 0, clock, log })
    upkeep.wake()
    await clock.pass(QUIET_MS)
    await clock.pass(QUIET_MS)
    await upkeep.stop()
    expect(layers()).toHaveLength(4)
  })
})

describe('a top on a layer that nobody needs apart', () => {
  const MIB = 1024 * 1024
  const taken = '2026-01-02T03:04:05.678Z'
  let folder: string
  let clock: HeldClock
  let disk: RowanDisk
  const layers = () => readdirSync(folder).filter(name => /^\d{4}$/.test(name))
  const open = async (quotaBytes?: number) => {
    clock = new HeldClock()
    const parts = { ...components(new TestImage(64 * MIB)), clock }
    const quota = quotaBytes === undefined ? {} : { quotaBytes }
    disk = await RowanDisk.open(parts, { folder, machine: 'm', readOnly: false, create: true, ...quota })
  }
  /** Writes up to `mib`, a MiB at a time, and says where it came to. */
  const fill = async (mib: number, value: number, from = 0) => {
    for (let at = from; at < mib; at++) {
      try {
        await disk.write(at * MIB, new Uint8Array(MIB).fill(value))
      } catch (error) {
        expect(error).toMatchObject({ code: 'LAYERS_FULL' })
        return at
      }
    }
    return mib
  }
  /** Until nothing is left to be done in the background. */
  const rest = async () => {
    for (let turn = 0; turn < 400; turn++) await clock.pass(50)
  }
  const shown = (at: number) => {
    const target = new Uint8Array(1)
    disk.read(at * MIB, target)
    return target[0]
  }
  beforeEach(() => {
    folder = join(mkdtempSync(join(tmpdir(), 'rowan-fold-')), 'layers')
  })
  afterEach(async () => {
    await disk.close()
    rmSync(join(folder, '..'), { recursive: true })
  })

  test('is put together with it once the snapshot is discarded: what was written twice has its space once', async () => {
    await open()
    await fill(12, 1)
    await disk.snapshot({ note: '', taken })
    await fill(10, 2)
    await disk.flush()
    const { layers: machine } = disk
    const allocated = () => layers().reduce((sum, name) => sum + statSync(join(folder, name, 'data')).blocks * 512, 0)
    await rest()
    expect(allocated()).toBeGreaterThan(21 * MIB)
    await disk.discard('s1')
    await rest()
    await vi.waitFor(() => expect(machine!.compaction.isDue).toBe(false))
    expect(allocated()).toBeLessThan(13 * MIB)
    expect([0, 9, 10, 11].map(shown)).toEqual([2, 2, 1, 1])
    const names = layers()
    expect(names).toHaveLength(2)
    // It is done once: what is written from now on makes no further layers.
    await fill(4, 3)
    await disk.flush()
    await rest()
    expect(layers()).toEqual(names)
    expect(machine!.compaction.isDue).toBe(false)
  })

  test('is left alone while a snapshot names the layer', async () => {
    await open()
    await fill(4, 1)
    await disk.snapshot({ note: '', taken })
    await disk.snapshot({ note: '', taken })
    await fill(4, 2)
    await disk.discard('s1')
    const before = layers()
    await rest()
    expect(layers()).toEqual(before)
  })

  test('gives a guest room that was refused a write for what it had written twice', async () => {
    await open(36 * MIB)
    await fill(20, 1)
    await disk.snapshot({ note: '', taken })
    await fill(10, 2)
    await disk.discard('s1')
    await rest()
    // It is 20 MiB again, of which 16 may be written twice.
    for (const value of [3, 4, 5]) {
      let written = await fill(20, value)
      expect(written).toBeLessThan(20)
      // The clock is held, the host's disk is not: a merge takes it as long as it takes.
      await waitUntil('room for the rest', async () => {
        await rest()
        written = await fill(20, value, written)
        return written === 20
      })
      await rest()
    }
    expect([0, 19].map(shown)).toEqual([5, 5])
  })
})

test.each(Array.from({ length: 12 }, (_, turns) => turns))(
  'what there is to do when it has just ended is done, too (%i turns later)',
  async turns => {
    const clock = new HeldClock()
    let done = 0
    const layers = {
      chain: { disks: { system: { layers: [] } } },
      folder: '',
      compaction: {
        isDue: true,
        run: async () => {
          done++
        }
      }
    } as unknown as MachineLayers
    const { log } = components(new TestImage(0))
    const upkeep = new LayerUpkeep({ layers, hold: HOLD, requests: () => 0, clock, log })
    upkeep.wake()
    clock.pass(QUIET_MS).catch(() => {})
    while (done === 0) await null
    for (let turn = 0; turn < turns; turn++) await null
    upkeep.wake()
    await upkeep.idle()
    expect(done).toBe(2)
  }
)

test('a map that cannot be read ends the work of now, and nothing else', async () => {
  const clock = new HeldClock()
  const warned: string[] = []
  const layers = {
    chain: { disks: { system: { layers: [] } } },
    folder: '',
    compaction: {
      get isDue(): boolean {
        throw new RowanError('LAYER_CORRUPT', 'page 0 is damaged')
      }
    }
  } as unknown as MachineLayers
  const log = { ...components(new TestImage(0)).log, warn: (message: string) => warned.push(message) }
  const upkeep = new LayerUpkeep({ layers, hold: HOLD, requests: () => 0, clock, log })
  upkeep.wake()
  await upkeep.idle()
  expect(warned).toHaveLength(1)
})
