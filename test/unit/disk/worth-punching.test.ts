import { expect, test } from 'vitest'
import { HolePuncher } from '../../../src/disk/hole-puncher.ts'
import { LayerMap, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'

test('whether there is space to give back is seen from the map, of which no more than a part is looked at', () => {
  const pages = 1000
  const map = new LayerMap(pages * SECTORS_PER_PAGE)
  let looks = 0
  const counted = {
    stateAt: (sector: number) => {
      looks++
      return map.stateAt(sector)
    },
    runEnd: (sector: number, end: number) => map.runEnd(sector, end)
  }
  expect(HolePuncher.isWorthIt(counted, 0, map.sectors)).toBe(false)
  map.set(100, 200, SECTOR_ZERO)
  map.set(300, 301, SECTOR_DATA)
  expect(HolePuncher.isWorthIt(counted, 0, 300)).toBe(false)
  expect(HolePuncher.isWorthIt(counted, 0, 301)).toBe(true)
  // Many pages of zeros with gaps: it is taken for worth it.
  map.set(300, 301, SECTOR_ZERO)
  for (let page = 0; page < pages; page++) map.set(page * SECTORS_PER_PAGE, page * SECTORS_PER_PAGE + 9, SECTOR_ZERO)
  looks = 0
  expect(HolePuncher.isWorthIt(counted, 0, map.sectors)).toBe(true)
  expect(looks).toBeLessThan(pages)
})
