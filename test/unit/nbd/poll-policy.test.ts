import { describe, expect, test } from 'vitest'
import {
  CHEAP_WAIT_MS,
  HIT_WORTH_MS,
  LOST_PROCESSOR_MS,
  MAX_CREDIT_MS,
  MAX_LOOKS,
  MAX_WAIT_MS,
  PAUSE_MS,
  PollPolicy,
  SHORT_WAITS,
  TRIAL_SHARE
} from '../../../src/nbd/poll-policy.ts'

const ANSWER_MS = 0.01
const LOOK_MS = 0.004
const SHORT_MS = 0.03
const LONG_MS = 5

function setUp() {
  const policy = new PollPolicy()
  const seen = { nowMs: 0, waits: 0, looked: 0, hits: 0, vainMs: 0, burntMs: 0 }
  /**
   * A request that is answered, and the time until the next comes.
   *
   * @param lookMs - how long a look takes
   * @returns whether it was looked for
   */
  const wait = (waitMs: number, lookMs = LOOK_MS) => {
    seen.nowMs += ANSWER_MS
    const answeredMs = seen.nowMs
    const comesMs = answeredMs + waitMs
    let isLooking = policy.answered(answeredMs)
    const looked = isLooking
    while (isLooking && seen.nowMs < comesMs) {
      seen.nowMs += lookMs
      if (seen.nowMs < comesMs) isLooking = policy.look(seen.nowMs)
    }
    const burntMs = seen.nowMs - answeredMs
    seen.nowMs = Math.max(seen.nowMs, comesMs)
    policy.arrived(seen.nowMs)
    seen.waits += 1
    if (!looked) return false
    seen.looked += 1
    seen.burntMs += burntMs
    if (isLooking) seen.hits += 1
    else seen.vainMs += burntMs
    return true
  }
  const waits = (count: number, waitMs: (index: number) => number, lookMs?: number) => {
    const before = seen.looked
    for (let index = 0; index < count; index++) wait(waitMs(index), lookMs)
    return seen.looked - before
  }
  return { policy, seen, wait, waits }
}

describe('PollPolicy', () => {
  test('looks for the next request once the waits were short for a while', () => {
    const { waits, seen } = setUp()
    seen.nowMs = 1000
    expect(waits(SHORT_WAITS, () => SHORT_MS)).toBe(0)
    expect(waits(1000, () => SHORT_MS)).toBe(1000)
    expect(seen.vainMs).toBe(0)
  })

  test('never looks for a client that takes its time', () => {
    const { waits } = setUp()
    expect(waits(10_000, () => 2 * MAX_WAIT_MS)).toBe(0)
    expect(waits(10_000, index => (index % SHORT_WAITS === 0 ? LONG_MS : SHORT_MS))).toBe(0)
  })

  test('hardly ever looks where the next request is there already, and does where that happens now and then', () => {
    const atOnceMs = 1.5 * LOOK_MS
    const { waits } = setUp()
    expect(waits(100_000, () => atOnceMs)).toBeLessThan(5_000)
    expect(waits(100_000, index => (index % 3 === 0 ? atOnceMs : SHORT_MS))).toBeGreaterThan(90_000)
  })

  test('does not keep a processor busy for a client that thinks for longer than that saves', () => {
    const { waits, seen } = setUp()
    const beganMs = seen.nowMs
    waits(100_000, () => 2 * CHEAP_WAIT_MS)
    expect(seen.burntMs / (seen.nowMs - beganMs)).toBeLessThan(0.05)
    // One that does so now and then is looked for.
    expect(waits(100_000, index => (index % 10 === 0 ? 2 * CHEAP_WAIT_MS : SHORT_MS))).toBeGreaterThan(90_000)
  })

  test('gives up a wait that becomes long, and waits for short ones again', () => {
    const { waits, wait, seen } = setUp()
    seen.nowMs = 1000
    waits(1000, () => SHORT_MS)
    expect(wait(LONG_MS)).toBe(true)
    expect(seen.vainMs).toBeGreaterThanOrEqual(MAX_WAIT_MS)
    expect(seen.vainMs).toBeLessThanOrEqual(MAX_WAIT_MS + 2 * LOOK_MS)
    expect(waits(SHORT_WAITS, () => SHORT_MS)).toBe(0)
    expect(wait(SHORT_MS)).toBe(true)
  })

  test('a wait that is long now and then does no harm', () => {
    const { waits } = setUp()
    expect(waits(100_000, index => (index % 300 === 0 ? LONG_MS : SHORT_MS))).toBeGreaterThan(95_000)
  })

  test('does not look while there is more than one request under way', () => {
    const { policy, waits, seen } = setUp()
    waits(1000, () => SHORT_MS)
    policy.answered(seen.nowMs)
    policy.crowded()
    expect(policy.look(seen.nowMs + LOOK_MS)).toBe(false)
    expect(waits(SHORT_WAITS, () => SHORT_MS)).toBe(0)
  })

  test('a client that lets it look in vain whenever it does can hardly waste anything', () => {
    const { policy, seen, wait } = setUp()
    while (seen.waits < 100_000) {
      // As `wait`, but the request comes as soon as nobody looks any more.
      const before = seen.looked
      wait(SHORT_MS)
      if (seen.looked > before) wait(LONG_MS)
    }
    expect(seen.looked).toBeGreaterThan(100)
    const allowedMs = seen.hits * HIT_WORTH_MS + seen.nowMs * TRIAL_SHARE + MAX_CREDIT_MS + 2 * MAX_WAIT_MS
    expect(seen.vainMs).toBeLessThanOrEqual(allowedMs)
    expect(seen.vainMs / seen.nowMs).toBeLessThan(0.05)
    expect(policy.look(seen.nowMs)).toBe(false)
  })

  test('looks no more for a while where somebody else gets the processor meanwhile, each time longer', () => {
    const { waits, wait, seen } = setUp()
    seen.nowMs = 1000
    const lose = () => {
      while (!wait(SHORT_MS)) if (seen.nowMs > 100_000) throw new Error('it never looks again')
      const lostMs = seen.nowMs
      // The look begins, and ends only when the others had their turn.
      expect(wait(3 * LOST_PROCESSOR_MS, 2 * LOST_PROCESSOR_MS)).toBe(true)
      while (!wait(SHORT_MS)) if (seen.nowMs > 100_000) throw new Error('it never looks again')
      return seen.nowMs - lostMs
    }
    const pausesMs = [lose(), lose(), lose(), lose()]
    expect(pausesMs[0]).toBeGreaterThanOrEqual(PAUSE_MS)
    for (const [index, pauseMs] of pausesMs.slice(1).entries()) expect(pauseMs).toBeGreaterThan(1.5 * pausesMs[index]!)
    waits(20_000, () => SHORT_MS)
    expect(lose()).toBeLessThan(2 * pausesMs[0]!)
  })

  test('ends a wait after a number of looks even if the clock stands still', () => {
    const { policy, waits, seen } = setUp()
    seen.nowMs = 1000
    waits(1000, () => SHORT_MS)
    expect(policy.answered(seen.nowMs)).toBe(true)
    let looks = 0
    while (policy.look(seen.nowMs)) looks++
    expect(looks).toBe(MAX_LOOKS)
  })
})
