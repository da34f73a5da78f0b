import { expect, test } from 'vitest'
import { MAX_RANGES, UnflushedRanges } from '../../../src/disk/unflushed-ranges.ts'

test('knows what was written since it was last taken, in order; what is in a row is one range', () => {
  const ranges = new UnflushedRanges(100)
  expect(ranges.isEmpty).toBe(true)
  for (const [start, end] of [
    [5, 6],
    [6, 9],
    [1, 2]
  ] as const) {
    ranges.add(start, end)
  }
  expect(ranges.take()).toEqual([
    { start: 5, count: 4 },
    { start: 1, count: 1 }
  ])
  expect(ranges.isEmpty).toBe(true)
})

test('gives up where it is too much, or too many', () => {
  const large = new UnflushedRanges(100)
  large.add(0, 101)
  expect(large.isEmpty).toBe(false)
  large.add(5, 6)
  expect(large.take()).toBe('many')
  large.add(0, 100)
  expect(large.take()).toEqual([{ start: 0, count: 100 }])
  const many = new UnflushedRanges(1000)
  for (let range = 0; range <= MAX_RANGES; range++) many.add(range * 2, range * 2 + 1)
  expect(many.take()).toBe('many')
})

test('forgets what was added last, and nothing else', () => {
  const ranges = new UnflushedRanges(100)
  ranges.forget(0, 1)
  ranges.add(0, 4)
  ranges.add(4, 8)
  ranges.forget(4, 8)
  ranges.add(20, 24)
  ranges.forget(0, 4)
  ranges.forget(20, 24)
  expect(ranges.take()).toEqual([{ start: 0, count: 4 }])
  for (let written = 0; written < 1000; written++) {
    ranges.add(written, written + 1)
    ranges.forget(written, written + 1)
  }
  expect(ranges.isEmpty).toBe(true)
})

test('forgets nothing where something else was written since', () => {
  const ranges = new UnflushedRanges(100)
  // What others wrote behind it, or over the end of it.
  ranges.add(0, 4)
  ranges.add(4, 8)
  ranges.forget(0, 4)
  expect(ranges.take()).toEqual([{ start: 0, count: 8 }])
  ranges.add(10, 18)
  ranges.add(14, 18)
  ranges.forget(10, 18)
  expect(ranges.take()).toEqual([
    { start: 10, count: 8 },
    { start: 14, count: 4 }
  ])
})

test('none is few where nothing may be logged', () => {
  const ranges = new UnflushedRanges(0)
  ranges.add(0, 1)
  expect(ranges.take()).toBe('many')
})
