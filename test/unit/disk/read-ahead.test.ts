import { expect, test } from 'vitest'
import { LayerMap, SECTOR_DATA } from '../../../src/disk/layer-map.ts'
import { MAX_WANTED, ReadAhead } from '../../../src/disk/read-ahead.ts'
import { RowanError } from '../../../src/errors.ts'
import { TestImage } from './support/test-image.ts'

const BLOCK = 65_536
const turn = () => new Promise(resolve => setImmediate(resolve))

function missing(blocks: number): TestImage {
  const image = new TestImage(blocks * BLOCK)
  for (let block = 0; block < blocks; block++) image.missing.add(block)
  return image
}

test('fetches what is not here, behind all demand, and nothing that a layer has', async () => {
  const image = missing(8)
  image.missing.delete(3)
  image.zeros.add(4)
  const map = new LayerMap(8 * 128)
  map.set(5 * 128, 6 * 128, SECTOR_DATA)
  map.set(6 * 128, 6 * 128 + 127, SECTOR_DATA)
  const ahead = new ReadAhead({ image, source: image, map })
  await ahead.fetch(BLOCK + 5, 6 * BLOCK)
  expect(image.wanted).toEqual([1, 2, 6, 7])
  expect(new Set(image.priorities)).toEqual(new Set(['read-ahead']))
})

test('leaves a block alone of which the range touches only what a layer has', async () => {
  const image = missing(2)
  const map = new LayerMap(256)
  map.set(128, 256, SECTOR_DATA)
  map.set(120, 128, SECTOR_DATA)
  const ahead = new ReadAhead({ image, source: image, map })
  await ahead.fetch(120 * 512, 8 * 512 + BLOCK)
  expect(image.wanted).toEqual([])
})

test('asks for a window at a time, in which ranges take turns', async () => {
  const image = missing(400)
  image.held = true
  const ahead = new ReadAhead({ image, source: image, map: undefined })
  const first = ahead.fetch(0, 200 * BLOCK)
  const second = ahead.fetch(200 * BLOCK, 200 * BLOCK)
  for (let n = 0; n < 10; n++) await turn()
  expect(image.waiting).toHaveLength(MAX_WANTED)
  const before = image.wanted.length
  for (let n = 0; n < 20; n++) {
    image.release()
    await turn()
  }
  expect(image.waiting).toHaveLength(MAX_WANTED)
  const later = image.wanted.slice(before)
  expect(later.filter(block => block >= 200).length).toBe(10)
  while (image.waiting.length > 0) {
    image.release()
    await turn()
  }
  await Promise.all([first, second])
  expect(image.missing.size).toBe(0)
})

test('ends where the pool keeps nothing', async () => {
  const image = missing(1000)
  image.poolIsFull = true
  await new ReadAhead({ image, source: image, map: undefined }).fetch(0, 1000 * BLOCK)
  expect(image.wanted.length).toBeLessThanOrEqual(MAX_WANTED)
})

test('tells of a failure once nothing is on the way any more', async () => {
  const image = missing(10)
  let asked = 0
  const source = {
    want: async (_image: string, block: number) => {
      asked++
      await turn()
      if (block === 1) throw new RowanError('STORE_IO', 'so the test wishes')
      await turn()
      return { slot: block }
    }
  }
  const ahead = new ReadAhead({ image, source, map: undefined })
  await expect(ahead.fetch(0, 10 * BLOCK)).rejects.toMatchObject({ code: 'STORE_IO' })
  expect(asked).toBe(10)
  await expect(ahead.fetch(2 * BLOCK, BLOCK)).resolves.toBeUndefined()
})

test('stops when the disk is closed', async () => {
  const image = missing(500)
  image.held = true
  const ahead = new ReadAhead({ image, source: image, map: undefined })
  const fetching = ahead.fetch(0, 500 * BLOCK)
  await turn()
  ahead.stop()
  await expect(fetching).rejects.toMatchObject({ code: 'DISK_CLOSED' })
  await expect(ahead.fetch(0, BLOCK)).rejects.toMatchObject({ code: 'DISK_CLOSED' })
})

test('what nobody waits for any more is called off, and the window is free for others', async () => {
  const image = missing(400)
  image.held = true
  const ahead = new ReadAhead({ image, source: image, map: undefined })
  const gone = new AbortController()
  const first = ahead.fetch(0, 200 * BLOCK, gone.signal)
  for (let n = 0; n < 10; n++) await turn()
  const second = ahead.fetch(200 * BLOCK, 10 * BLOCK)
  gone.abort()
  await expect(first).rejects.toMatchObject({ code: 'ABORTED' })
  await turn()
  expect(image.wanted.filter(block => block < 200)).toHaveLength(MAX_WANTED)
  expect(image.wanted.slice(MAX_WANTED)).toEqual(Array.from({ length: 10 }, (_, index) => 200 + index))
  while (image.missing.size > 390) {
    image.release()
    await turn()
  }
  await second
})
