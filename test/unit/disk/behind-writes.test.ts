import { describe, expect, test } from 'vitest'
import { BEHIND_BYTES, behindWrites, MAX_RUNS, MIN_RUN_BYTES } from '../../../src/disk/behind-writes.ts'
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

describe('what a next start may read', () => {
  test('lies behind the longest writes, those of the longest first', () => {
    const map = mapOf([
      { offset: 1024 * KIB, lengthBytes: 200 * KIB },
      { offset: 8192 * KIB, lengthBytes: 512 * KIB },
      { offset: 16_384 * KIB, lengthBytes: MIN_RUN_BYTES - SECTOR_BYTES }
    ])
    expect(behindWrites(map, DISK_BYTES)).toEqual([
      { offset: 8704 * KIB, lengthBytes: BEHIND_BYTES },
      { offset: 1224 * KIB, lengthBytes: BEHIND_BYTES }
    ])
  })

  test('zeros and data that touch are one run', () => {
    const zeros = { offset: 100 * KIB, lengthBytes: 100 * KIB, state: SECTOR_ZERO as SectorState }
    const map = mapOf([{ offset: 0, lengthBytes: 100 * KIB }, zeros])
    expect(behindWrites(map, DISK_BYTES)).toEqual([{ offset: 200 * KIB, lengthBytes: BEHIND_BYTES }])
  })

  test('ends with the disk', () => {
    const atEnd = mapOf([{ offset: DISK_BYTES - 512 * KIB, lengthBytes: 500 * KIB }])
    expect(behindWrites(atEnd, DISK_BYTES)).toEqual([{ offset: DISK_BYTES - 12 * KIB, lengthBytes: 12 * KIB }])
    expect(behindWrites(mapOf([{ offset: 0, lengthBytes: DISK_BYTES }]), DISK_BYTES)).toEqual([])
  })

  test('is bounded, and nothing where nothing was written', () => {
    const runs = Array.from({ length: 60 }, (_, n) => ({ offset: n * 1024 * KIB, lengthBytes: 256 * KIB }))
    expect(behindWrites(mapOf(runs), DISK_BYTES)).toHaveLength(MAX_RUNS)
    expect(behindWrites(mapOf([]), DISK_BYTES)).toEqual([])
  })
})
