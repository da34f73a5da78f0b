import { describe, expect, test } from 'vitest'
import { BEHIND_BYTES, behindWrites, LOOKS_PER_TURN, MAX_RUNS, MIN_RUN_BYTES } from '../../../src/disk/behind-writes.ts'
import type { SectorStates } from '../../../src/disk/disk-extents.ts'
import { SECTOR_BYTES, SECTOR_DATA, SECTOR_ZERO, type SectorState } from '../../../src/disk/layer-map.ts'

const DISK_BYTES = 64 * 1024 * 1024
const KIB = 1024

/** A map with these bytes written, or zeroed. */
function mapOf(runs: { offset: number; lengthBytes: number; state?: SectorState }[]): SectorStates {
  const states = new Uint8Array(DISK_BYTES / SECTOR_BYTES)
  for (const { offset, lengthBytes, state = SECTOR_DATA } of runs) {
    states.fill(state, offset / SECTOR_BYTES, (offset + lengthBytes) / SECTOR_BYTES)
  }
  return {
    stateAt: sector => states[sector] as SectorState,
    runEnd(sector, end) {
      let to = sector
      while (to < end && states[to] === states[sector]) to++
      return to
    }
  }
}

const turn = async () => {}

describe('what a next start may read', () => {
  test('lies behind the longest writes, those of the longest first', async () => {
    const map = mapOf([
      { offset: 1024 * KIB, lengthBytes: 200 * KIB },
      { offset: 8192 * KIB, lengthBytes: 512 * KIB },
      { offset: 16_384 * KIB, lengthBytes: MIN_RUN_BYTES - SECTOR_BYTES }
    ])
    expect(await behindWrites(map, DISK_BYTES, turn)).toEqual([
      { offset: 8704 * KIB, lengthBytes: BEHIND_BYTES },
      { offset: 1224 * KIB, lengthBytes: BEHIND_BYTES }
    ])
  })

  test('zeros and data that touch are one run', async () => {
    const zeros = { offset: 100 * KIB, lengthBytes: 100 * KIB, state: SECTOR_ZERO as SectorState }
    const map = mapOf([{ offset: 0, lengthBytes: 100 * KIB }, zeros])
    expect(await behindWrites(map, DISK_BYTES, turn)).toEqual([{ offset: 200 * KIB, lengthBytes: BEHIND_BYTES }])
  })

  test('ends with the disk', async () => {
    const atEnd = mapOf([{ offset: DISK_BYTES - 512 * KIB, lengthBytes: 500 * KIB }])
    expect(await behindWrites(atEnd, DISK_BYTES, turn)).toEqual([
      { offset: DISK_BYTES - 12 * KIB, lengthBytes: 12 * KIB }
    ])
    expect(await behindWrites(mapOf([{ offset: 0, lengthBytes: DISK_BYTES }]), DISK_BYTES, turn)).toEqual([])
  })

  test('is bounded, and nothing where nothing was written', async () => {
    const runs = Array.from({ length: 60 }, (_, n) => ({ offset: n * 1024 * KIB, lengthBytes: 256 * KIB }))
    expect(await behindWrites(mapOf(runs), DISK_BYTES, turn)).toHaveLength(MAX_RUNS)
    expect(await behindWrites(mapOf([]), DISK_BYTES, turn)).toEqual([])
  })

  test('lets others have their turn, and ends where one of them says so', async () => {
    const runs = Array.from({ length: 1024 }, (_, n) => ({ offset: n * 64 * KIB, lengthBytes: 4 * KIB }))
    let turns = 0
    const count = async () => {
      turns++
    }
    expect(await behindWrites(mapOf(runs), DISK_BYTES, count)).toEqual([])
    expect(turns).toBe((2 * 1024) / LOOKS_PER_TURN)
    const closed = async () => {
      if (turns++ === 20) throw new Error('closed')
    }
    await expect(behindWrites(mapOf(runs), DISK_BYTES, closed)).rejects.toThrow('closed')
    expect(turns).toBe(21)
  })
})
