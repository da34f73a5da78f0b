import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { BroughtBlocks, FORGET_MS, MIN_USES, PAUSE_READS, TRIAL_BLOCKS } from '../../../src/disk/brought-blocks.ts'

const BLOCKS = 1_000_000

function setUp() {
  const brought = new BroughtBlocks(BLOCKS * BLOCK_SIZE_BYTES)
  const seen = { nowMs: 100_000, next: 0 }
  /** Small reads, each of a block that was not read before. @returns how many bring it */
  const read = (count: number) => {
    let bring = 0
    for (let index = 0; index < count; index++) {
      const block = seen.next++
      if (!brought.mayBring(block, seen.nowMs)) continue
      brought.add(block)
      bring++
    }
    return bring
  }
  return { brought, seen, read }
}

test('small reads bring their blocks, each once', () => {
  const { brought, read, seen } = setUp()
  expect(brought.has(3)).toBe(false)
  expect(read(10)).toBe(10)
  expect([brought.has(0), brought.has(9), brought.has(10)]).toEqual([true, true, false])
  expect(brought.mayBring(3, seen.nowMs)).toBe(false)
})

test('they go on while what was brought is found', () => {
  const { brought, read } = setUp()
  let bring = 0
  for (let trial = 0; trial < 10; trial++) {
    bring += read(TRIAL_BLOCKS)
    for (let use = 0; use < MIN_USES; use++) brought.used()
  }
  expect(bring).toBe(10 * TRIAL_BLOCKS)
})

test('where it is not, one read in 16 may be in vain', () => {
  const { brought, read } = setUp()
  expect(read(TRIAL_BLOCKS)).toBe(TRIAL_BLOCKS)
  for (let use = 0; use < MIN_USES - 1; use++) brought.used()
  expect(read(1)).toBe(1)
  expect(read(PAUSE_READS)).toBe(0)
  expect(read(10 * 16 * TRIAL_BLOCKS)).toBeLessThanOrEqual(11 * TRIAL_BLOCKS)
})

test('a block is brought again only after no read was slow for a while', () => {
  const { brought, read, seen } = setUp()
  read(1)
  for (let second = 0; second < 1000; second++) {
    seen.nowMs += FORGET_MS
    expect(brought.mayBring(0, seen.nowMs)).toBe(false)
  }
  seen.nowMs += FORGET_MS + 1
  expect(brought.mayBring(0, seen.nowMs)).toBe(true)
})
