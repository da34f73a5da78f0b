import { expect, test } from 'vitest'
import { MOST_ARE_SLOW, SlowReads } from '../../../src/disk/slow-reads.ts'

const LENGTH = 4096
const FAST_MS = 0.004
const SLOW_MS = 0.13

function setUp(slowScore?: number) {
  const clock = { ms: 0 }
  const slow = new SlowReads(() => clock.ms, slowScore)
  /** Reads that take some time where they are made in place. @returns how many were not */
  const read = (count: number, durationMs: (index: number) => number, length = LENGTH) => {
    let aside = 0
    for (let index = 0; index < count; index++) {
      if (!slow.isInPlace(length)) aside++
      else {
        slow.time(length, () => {
          clock.ms += durationMs(index)
        })
      }
    }
    return aside
  }
  return { slow, read, clock }
}

test('reads from the page cache stay in place, also where one is late now and then', () => {
  const { read } = setUp()
  expect(read(20_000, index => (index % 48 === 0 ? 5 : FAST_MS))).toBe(0)
})

test('of reads that should be fast it takes more than half', () => {
  const { slow, read } = setUp(MOST_ARE_SLOW)
  expect(read(20_000, index => (index % 3 === 0 ? SLOW_MS : FAST_MS))).toBe(0)
  expect(read(2000, index => (index % 3 === 0 ? FAST_MS : SLOW_MS))).toBeGreaterThan(500)
  read(2000, () => FAST_MS)
  expect(slow.isSlow).toBe(false)
})

test('once many are slow the others go aside, but for one in 16', () => {
  const { slow, read } = setUp()
  expect(read(16, () => SLOW_MS)).toBe(0)
  expect(slow.isSlow).toBe(true)
  expect(read(1600, () => SLOW_MS)).toBe(1500)
})

test('once those that are tried are fast, all are in place again', () => {
  const { slow, read } = setUp()
  read(200, () => SLOW_MS)
  expect(read(200, () => FAST_MS)).toBeGreaterThan(50)
  expect(slow.isSlow).toBe(false)
  expect(read(1000, () => FAST_MS)).toBe(0)
})

test('large reads are always in place, and their time is judged by their length', () => {
  const { slow, read } = setUp()
  read(200, () => 0.15, 128 * 1024)
  expect(slow.isSlow).toBe(false)
  read(200, () => SLOW_MS)
  expect(read(100, () => 10, 1024 * 1024)).toBe(0)
})

test('a read that waits for the network says nothing of the store', async () => {
  const { slow, clock } = setUp()
  for (let index = 0; index < 100; index++) {
    slow.isInPlace(LENGTH)
    clock.ms += 50
    await slow.time(LENGTH, () => Promise.resolve())
  }
  expect(slow.isSlow).toBe(false)
})
