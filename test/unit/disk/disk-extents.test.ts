import { describe, expect, test } from 'vitest'
import type { Extent } from '../../../src/disk/block-device.ts'
import { diskExtents } from '../../../src/disk/disk-extents.ts'
import { LayerMap, SECTOR_DATA, SECTOR_ZERO } from '../../../src/disk/layer-map.ts'
import { TestImage } from './support/test-image.ts'

const BLOCK = 65_536

/** `data`, `hole`, `away` with their lengths, for a person to read. */
function told(extents: Extent[]): [string, number][] {
  return extents.map(({ lengthBytes, isHole, isZero, isLocal }) => {
    expect(isHole).toBe(isZero)
    return [isZero ? 'hole' : isLocal ? 'data' : 'away', lengthBytes]
  })
}

describe('the extents of a disk', () => {
  test('are those of the image where no layer says otherwise', () => {
    const image = new TestImage(6 * BLOCK - 100)
    image.zeros.add(1).add(2)
    image.missing.add(3).add(4)
    const all = diskExtents(undefined, image, 0, 6 * BLOCK - 100, 100)
    expect(told(all)).toEqual([
      ['data', BLOCK],
      ['hole', 2 * BLOCK],
      ['away', 2 * BLOCK],
      ['data', BLOCK - 100]
    ])
    expect(all.filter(extent => !extent.isLocal)).toHaveLength(1)
    expect(told(diskExtents(undefined, image, BLOCK + 5, 10, 100))).toEqual([['hole', 10]])
    expect(told(diskExtents(undefined, image, BLOCK - 5, 10, 100))).toEqual([
      ['data', 5],
      ['hole', 5]
    ])
  })

  test('of a layer hide what is below, and join with what is like them', () => {
    const image = new TestImage(4 * BLOCK)
    image.zeros.add(1)
    image.missing.add(2)
    const map = new LayerMap((4 * BLOCK) / 512)
    map.set(8, 16, SECTOR_ZERO)
    map.set(126, 130, SECTOR_DATA)
    map.set(255, 300, SECTOR_ZERO)
    expect(told(diskExtents(map, image, 0, 4 * BLOCK, 100))).toEqual([
      ['data', 8 * 512],
      ['hole', 8 * 512],
      ['data', (130 - 16) * 512],
      ['hole', (300 - 130) * 512],
      ['away', (3 * 128 - 300) * 512],
      ['data', BLOCK]
    ])
  })

  test('are no more than asked for', () => {
    const image = new TestImage(10 * BLOCK)
    for (const block of [1, 3, 5, 7, 9]) image.zeros.add(block)
    expect(told(diskExtents(undefined, image, 0, 10 * BLOCK, 3))).toEqual([
      ['data', BLOCK],
      ['hole', BLOCK],
      ['data', BLOCK]
    ])
    expect(told(diskExtents(new LayerMap(1280), image, 0, 10 * BLOCK, 1))).toEqual([['data', BLOCK]])
  })

  test('of 8 TiB are told in pieces, each found with bounded work', () => {
    let looks = 0
    const image = {
      peek: () => {
        looks++
        return -1
      }
    }
    const sizeBytes = 8 * 2 ** 40
    const [hole] = diskExtents(undefined, image, 0, sizeBytes, 10)
    expect(hole).toEqual({ lengthBytes: 8192 * BLOCK, isHole: true, isZero: true, isLocal: true })
    expect(looks).toBe(8192)

    const map = new LayerMap(sizeBytes / 512)
    map.set(0, sizeBytes / 512, SECTOR_ZERO)
    const [trimmed, ...more] = diskExtents(map, image, 0, sizeBytes, 10)
    expect(trimmed).toMatchObject({ lengthBytes: 64 * 2 ** 30, isZero: true })
    expect(more).toEqual([])

    // Runs that alternate: the image's parts together are bounded, not each of them.
    looks = 0
    const stripes = new LayerMap(sizeBytes / 512)
    for (let at = 0; at < 1000; at++) stripes.set(at * 128 * 100, at * 128 * 100 + 128, SECTOR_DATA)
    diskExtents(stripes, image, 0, sizeBytes, 10_000)
    expect(looks).toBeLessThanOrEqual(8192)
  })
})
