import { expect, test } from 'vitest'
import { MAX_RANGES, UnflushedRanges } from '../../../src/disk/unflushed-ranges.ts'

/** What is written to a sector is full of its number. */
function add(to: UnflushedRanges, start: number, end: number): void {
  const bytes = new Uint8Array((end - start) * 512)
  for (let sector = start; sector < end; sector++)
    bytes.fill(sector, (sector - start) * 512, (sector + 1 - start) * 512)
  to.add(start, end, bytes)
}

/** The ranges, once it is sure that their content is right. */
function taken(from: UnflushedRanges) {
  const ranges = from.take()
  if (ranges === 'many') return ranges
  return ranges.map(({ start, count, content }) => {
    const numbers = Array.from({ length: count }, (_, index) => content[index * 512])
    expect(numbers).toEqual(Array.from({ length: count }, (_, index) => (start + index) & 0xff))
    return { start, count }
  })
}

test('knows what was written since it was last taken, in order; what is in a row is one range', () => {
  const ranges = new UnflushedRanges(100)
  expect(ranges.isEmpty).toBe(true)
  for (const [start, end] of [
    [5, 6],
    [6, 9],
    [1, 2]
  ] as const) {
    add(ranges, start, end)
  }
  expect(taken(ranges)).toEqual([
    { start: 5, count: 4 },
    { start: 1, count: 1 }
  ])
  expect(ranges.isEmpty).toBe(true)
})

test('gives up where it is too much, or too many', () => {
  const large = new UnflushedRanges(100)
  add(large, 0, 101)
  expect(large.isEmpty).toBe(false)
  add(large, 5, 6)
  expect(taken(large)).toBe('many')
  add(large, 0, 100)
  expect(taken(large)).toEqual([{ start: 0, count: 100 }])
  const many = new UnflushedRanges(1000)
  for (let range = 0; range <= MAX_RANGES; range++) add(many, range * 2, range * 2 + 1)
  expect(taken(many)).toBe('many')
})

test('forgets what was added last, and nothing else', () => {
  const ranges = new UnflushedRanges(100)
  ranges.forget(0, 1)
  add(ranges, 0, 4)
  add(ranges, 4, 8)
  ranges.forget(4, 8)
  add(ranges, 20, 24)
  ranges.forget(0, 4)
  ranges.forget(20, 24)
  expect(taken(ranges)).toEqual([{ start: 0, count: 4 }])
  for (let written = 0; written < 1000; written++) {
    add(ranges, written, written + 1)
    ranges.forget(written, written + 1)
  }
  expect(ranges.isEmpty).toBe(true)
})

test('forgets nothing where something else was written since', () => {
  const ranges = new UnflushedRanges(100)
  // What others wrote behind it, or over the end of it.
  add(ranges, 0, 4)
  add(ranges, 4, 8)
  ranges.forget(0, 4)
  expect(taken(ranges)).toEqual([{ start: 0, count: 8 }])
  add(ranges, 10, 18)
  add(ranges, 14, 18)
  ranges.forget(10, 18)
  // Behind what was written later nothing older may come.
  ranges.forget(14, 18)
  expect(taken(ranges)).toEqual([
    { start: 10, count: 8 },
    { start: 14, count: 4 }
  ])
})

test('none is few where nothing may be logged', () => {
  const ranges = new UnflushedRanges(0)
  add(ranges, 0, 1)
  expect(taken(ranges)).toBe('many')
})
