import { describe, expect, test } from 'vitest'
import { withDeadline } from '../../../src/deadline.ts'
import { pollHolders } from '../../../src/directory/poll-holders.ts'
import { RateMeter } from '../../../src/directory/rate-meter.ts'
import { jittered, takeRandom } from '../../../src/directory/sampling.ts'
import { RowanError } from '../../../src/errors.ts'
import { FakeClock, seeded, settled } from './support.ts'

const holders = ['a', 'b', 'c', 'd'].map(peer => ({ peer }))
const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

describe('a poll', () => {
  test('asks all at once and reports who failed, and why', async () => {
    const asked: string[] = []
    const result = await pollHolders(
      holders,
      async ({ peer }) => {
        asked.push(peer)
        await settled()
        if (peer === 'b') throw new RowanError('TIMEOUT_DIAL', 'slow')
        if (peer === 'c') throw new Error('reset')
      },
      () => false,
      new AbortController().signal
    )
    expect(asked).toEqual(['a', 'b', 'c', 'd'])
    expect(result).toEqual({
      asked: ['a', 'b', 'c', 'd'],
      answered: 2,
      failed: [
        { peer: 'b', code: 'TIMEOUT_DIAL', message: 'slow' },
        { peer: 'c', code: 'PEER_GONE', message: 'reset' }
      ]
    })
  })

  test('ends when it is enough, and leaves the silent ones alone', async () => {
    const cut: string[] = []
    const result = await pollHolders(
      holders,
      async ({ peer }, signal) => {
        if (peer === 'a' || peer === 'd') return
        await untilAborted(signal).finally(() => cut.push(peer))
      },
      answered => answered === 2,
      new AbortController().signal
    )
    expect(result).toEqual({ asked: ['a', 'b', 'c', 'd'], answered: 2, failed: [] })
    await settled()
    expect(cut).toEqual(['b', 'c'])
  })

  test('ends when its signal aborts, and asks nobody if it had before', async () => {
    const controller = new AbortController()
    const poll = pollHolders(
      holders,
      (_holder, signal) => untilAborted(signal),
      () => false,
      controller.signal
    )
    controller.abort(new RowanError('ABORTED', 'enough'))
    expect((await poll).answered).toBe(0)
  })

  test('of nobody ends at once', async () => {
    const result = await pollHolders(
      [],
      async () => {},
      () => false,
      new AbortController().signal
    )
    expect(result).toEqual({ asked: [], answered: 0, failed: [] })
  })
})

describe('a deadline', () => {
  test('lets work finish', async () => {
    expect(await withDeadline(new FakeClock(), 10, undefined, 'TIMEOUT_DIAL', async () => 7)).toBe(7)
  })

  test('ends work that does not heed it, with its code', async () => {
    const clock = new FakeClock()
    const work = withDeadline(clock, 1000, undefined, 'TIMEOUT_RESPONSE', () => new Promise(() => {}))
    const failed = expect(work).rejects.toMatchObject({ code: 'TIMEOUT_RESPONSE' })
    await clock.advance(1000)
    await failed
  })

  test('passes on an abort, and starts nothing after one', async () => {
    const controller = new AbortController()
    const work = withDeadline(new FakeClock(), 1000, controller.signal, 'TIMEOUT_DIAL', untilAborted)
    controller.abort()
    await expect(work).rejects.toMatchObject({ code: 'ABORTED' })
    let hasStarted = false
    const late = withDeadline(new FakeClock(), 1000, controller.signal, 'TIMEOUT_DIAL', async () => {
      hasStarted = true
    })
    await expect(late).rejects.toMatchObject({ code: 'ABORTED' })
    expect(hasStarted).toBe(false)
  })
})

describe('a meter', () => {
  test('gives a burst, then a rate, to each name', () => {
    const meter = new RateMeter({ burst: 3, perSecond: 2 }, 10)
    const taken = (name: string, now: number) => Array.from({ length: 9 }, () => meter.take(name, now)).filter(Boolean)
    expect(taken('a', 0)).toHaveLength(3)
    expect(taken('b', 0)).toHaveLength(3)
    expect(taken('a', 1000)).toHaveLength(2)
    expect(taken('a', 60_000)).toHaveLength(3)
  })

  test('remembers a bounded number of names, the latest used', () => {
    const meter = new RateMeter({ burst: 1, perSecond: 0 }, 2)
    for (const name of ['a', 'b', 'a', 'c']) meter.take(name, 0)
    expect(meter.take('a', 0)).toBe(false)
    expect(meter.take('b', 0)).toBe(true)
  })
})

describe('chance', () => {
  test('takes every item equally often', () => {
    const random = seeded(5)
    const counts = new Map<number, number>()
    for (let i = 0; i < 9000; i++) {
      for (const item of takeRandom([1, 2, 3, 4, 5, 6], 2, random)) counts.set(item, (counts.get(item) ?? 0) + 1)
    }
    for (const count of counts.values()) expect(Math.abs(count - 3000)).toBeLessThan(200)
    expect(takeRandom([1, 2], 9, random).toSorted()).toEqual([1, 2])
  })

  test('jitters within its part', () => {
    const random = seeded(6)
    const values = Array.from({ length: 1000 }, () => jittered(100, 0.1, random))
    expect(Math.min(...values)).toBeGreaterThanOrEqual(90)
    expect(Math.max(...values)).toBeLessThanOrEqual(110)
    expect(Math.max(...values) - Math.min(...values)).toBeGreaterThan(18)
  })
})
