import { expect, test, vi } from 'vitest'
import { behindWrites } from '../../../src/disk/behind-writes.ts'
import { FrozenMap } from '../../../src/disk/frozen-map.ts'
import { LayerMap, SECTOR_BYTES, SECTOR_DATA, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import type { LayerStack } from '../../../src/disk/layer-stack.ts'
import { StackStates } from '../../../src/disk/stack-states.ts'
import { components, TestImage } from './support/test-image.ts'

const TIB = 1024 ** 4

test('to look at all layers of a large disk costs no more than its map is long', async () => {
  const sizeBytes = TIB / 4
  const sectors = sizeBytes / SECTOR_BYTES
  const map = new LayerMap(sectors)
  map.set(8, 1024, SECTOR_DATA)
  const frozen = new FrozenMap(sectors, components(new TestImage(0)).log)
  const states = new StackStates({ top: { map }, frozen } as unknown as LayerStack)
  let lookedAt = 0
  const runEnd = map.runEnd.bind(map)
  vi.spyOn(map, 'runEnd').mockImplementation((sector, end) => {
    const found = runEnd(sector, end)
    lookedAt += found - sector
    return found
  })
  const found = await behindWrites(states, sizeBytes, async () => {})
  expect(found).toMatchObject([{ offset: 1024 * SECTOR_BYTES }])
  expect(states.runEnd(0, 8)).toBe(8)
  expect(states.runEnd(SECTORS_PER_PAGE - 1, sectors)).toBe(SECTORS_PER_PAGE)
  expect(lookedAt).toBeLessThan(2 * sectors)
}, 60_000)
