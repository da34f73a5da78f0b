import { beforeEach, describe, expect, test } from 'vitest'
import type { Timer } from '../../../src/environment.ts'
import { RowanError } from '../../../src/errors.ts'
import type { BlockWaiter } from '../../../src/swarm/image-fetch.ts'
import { MAX_ON_BEHALF, MAX_ON_BEHALF_PER_REQUESTER, ON_BEHALF_TIMEOUT_MS } from '../../../src/swarm/limits.ts'
import type { Rank } from '../../../src/swarm/messages.ts'
import { type FetchedOnBehalf, OnBehalf } from '../../../src/swarm/on-behalf.ts'

const DEMAND: Rank = 0
const PROFILE: Rank = 2
const FILL: Rank = 3

/** An image in use: who waits for what, and how much may be fetched for others alone. */
class Fetched implements FetchedOnBehalf {
  readonly waiters = new Map<number, Set<BlockWaiter>>()
  readonly wanted = new Set<number>()
  left = Number.POSITIVE_INFINITY

  wants(block: number): boolean {
    return this.wanted.has(block)
  }

  spend(): boolean {
    return this.left-- > 0
  }

  request(block: number, waiter: BlockWaiter): () => void {
    const waiters = this.waiters.get(block) ?? new Set()
    this.waiters.set(block, waiters.add(waiter))
    return () => {
      waiters.delete(waiter)
      if (waiters.size === 0) this.waiters.delete(block)
    }
  }

  come(block: number): void {
    for (const { resolve } of this.waiters.get(block) ?? []) resolve({ slot: block })
    this.waiters.delete(block)
  }

  ranks(block: number): Rank[] {
    return [...(this.waiters.get(block) ?? [])].map(({ rank }) => rank)
  }
}

describe('blocks fetched on behalf of neighbours', () => {
  let timers: { delayMs: number; run: () => void; isOver: boolean }[]
  let told: string[]
  let fetched: Fetched
  let onBehalf: OnBehalf<string, object>

  beforeEach(() => {
    timers = []
    told = []
    fetched = new Fetched()
    const after = (delayMs: number, run: () => void): Timer => {
      const timer = { delayMs, run, isOver: false }
      timers.push(timer)
      const cancel = () => {
        timer.isOver = true
      }
      return { cancel }
    }
    onBehalf = new OnBehalf({
      arrived: (who, key, rank) => void told.push(`${who} ${key} at ${rank}`),
      failed: (who, key) => void told.push(`${who} ${key} failed`),
      clock: { now: () => 0, monotonicMs: () => 0, after }
    })
  })

  const take = (who: string, block: number, rank: Rank = PROFILE) =>
    onBehalf.take(who, block, fetched, { block, rank, job: {} })

  test('are served when they come, at the rank that the neighbour has by then', () => {
    expect(take('a', 1)).toBe(true)
    expect(take('b', 1)).toBe(true)
    onBehalf.raise('a', 1, DEMAND)
    expect(fetched.ranks(1).sort()).toEqual([DEMAND, PROFILE])
    expect([...fetched.waiters.get(1)!].every(({ relied }) => relied)).toBe(true)
    fetched.come(1)
    expect(told.sort()).toEqual(['a 1 at 0', 'b 1 at 2'])
    expect(onBehalf.count('a')).toBe(0)
    expect(timers.every(({ isOver }) => isOver)).toBe(true)
  })

  test('are given up when nobody wants them: called off, or the neighbour is gone', () => {
    for (const block of [1, 2, 3]) take('a', block)
    expect(onBehalf.cancel('a', 1)).toBe(true)
    expect(onBehalf.cancel('a', 1)).toBe(false)
    onBehalf.drop('a', key => key === 2)
    expect([...fetched.waiters.keys()]).toEqual([3])
    onBehalf.drop('a')
    expect(fetched.waiters.size).toBe(0)
    expect(told).toEqual([])
  })

  test('are refused after a while, so that nobody waits for an answer for ever', () => {
    take('a', 1)
    expect(timers[0]!.delayMs).toBe(ON_BEHALF_TIMEOUT_MS)
    timers[0]!.run()
    expect(told).toEqual(['a 1 failed'])
    expect(fetched.waiters.size).toBe(0)
  })

  test('are refused when they cannot be had', () => {
    take('a', 1)
    for (const { reject } of fetched.waiters.get(1)!) reject(new RowanError('POOL_FULL', 'no room'))
    expect(told).toEqual(['a 1 failed'])
  })

  test('are so many for one neighbour, and so many in all', () => {
    let taken = 0
    for (let n = 0; n < MAX_ON_BEHALF_PER_REQUESTER + 5; n++) if (take('a', n)) taken++
    expect(taken).toBe(MAX_ON_BEHALF_PER_REQUESTER)
    for (let who = 0; who < 20; who++) for (let n = 0; n < 100; n++) if (take(`${who}`, n)) taken++
    expect(taken).toBe(MAX_ON_BEHALF)
    onBehalf.drop('a')
    expect(take('b', 1)).toBe(true)
  })

  test('are paid for from what may be fetched for others alone, unless somebody here wants them', () => {
    fetched.left = 1
    fetched.wanted.add(7)
    expect(take('a', 7)).toBe(true)
    expect(take('a', 1)).toBe(true)
    expect(take('a', 2)).toBe(false)
    expect(take('a', 1, DEMAND)).toBe(true)
  })

  test('for a fill are only those that are being fetched here anyway', () => {
    fetched.wanted.add(7)
    expect(take('a', 7, FILL)).toBe(true)
    expect(take('a', 1, FILL)).toBe(false)
  })
})
