/**
 * Volunteers behind one line, in virtual time: how much crosses it, how long guests wait, and what a bad neighbour can do.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bootBehindOneLine, type Fault, type HomeLineOptions } from '../../../sim/home-line.ts'

const BLOCKS = 400
const HOME: Omit<HomeLineOptions, 'volunteers'> = {
  rttMs: 68,
  bytesPerMs: 6250,
  blocks: BLOCKS,
  thinkMs: 30,
  hasProfile: true
}
const FAULTS: Fault[] = ['boasts', 'mute', 'refuses', 'lies']
/** In bytes that one volunteer alone needs. */
const GOAL = 1.1

const alone = (options: Partial<HomeLineOptions> = {}) => bootBehindOneLine({ ...HOME, ...options, volunteers: 1 })

describe('volunteers in lockstep behind one line', () => {
  for (const hasProfile of [true, false]) {
    const how = hasProfile ? 'with a profile' : 'without a profile'

    test(`fetch together hardly more than one alone, ${how}`, () => {
      const one = alone({ hasProfile })
      for (const volunteers of [2, 8]) {
        const all = bootBehindOneLine({ ...HOME, hasProfile, volunteers })
        expect(all.lineBytes / one.lineBytes).toBeLessThan(GOAL)
      }
    })

    test(`wait a few round trips longer at most than two who know nothing of each other, ${how}`, () => {
      const together = bootBehindOneLine({ ...HOME, hasProfile, volunteers: 2 })
      const apart = bootBehindOneLine({ ...HOME, hasProfile, volunteers: 2, areStrangers: true })
      expect(apart.lineBytes / together.lineBytes).toBeGreaterThan(1.9)
      for (const [n, { totalMs }] of together.waits.entries())
        expect(totalMs).toBeLessThan(apart.waits[n]!.totalMs + 3 * HOME.rttMs)
    })
  }

  test('share on hosts that are busy, too', () => {
    const busy = { bytesPerMs: 2500, far: 1, busyMs: 300 }
    for (const volunteers of [2, 8]) {
      const along = bootBehindOneLine({ ...HOME, ...busy, volunteers })
      expect(along.lineBytes / alone().lineBytes).toBeLessThan(1.2)
      // Guests wait so long for what is late that others are asked, too.
      const bare = bootBehindOneLine({ ...HOME, ...busy, hasProfile: false, volunteers })
      expect(bare.lineBytes / alone().lineBytes).toBeLessThan(1.5)
    }
  })

  test('on a line that is too narrow for two, each waits about half as long as beside a stranger', () => {
    const narrow = { bytesPerMs: 1250 }
    const together = bootBehindOneLine({ ...HOME, ...narrow, volunteers: 2 })
    const apart = bootBehindOneLine({ ...HOME, ...narrow, volunteers: 2, areStrangers: true })
    expect(together.waits[0]!.totalMs).toBeLessThan(0.6 * apart.waits[0]!.totalMs)
  })

  test('who comes later is given by its neighbour what that one has', () => {
    const one = alone()
    const two = bootBehindOneLine({ ...HOME, volunteers: 2, startMs: n => 1 + 4000 * n })
    expect(two.lineBytes / one.lineBytes).toBeLessThan(GOAL)
    expect(two.waits[1]!.totalMs).toBeLessThan(one.waits[0]!.totalMs + 100)
  })
})

describe('a neighbour that', () => {
  for (const fault of FAULTS) {
    for (const fromMs of [0, 2500]) {
      test(`${fault} from ${fromMs} ms on costs the other bounded time`, () => {
        for (const hasProfile of [true, false]) {
          const honest = alone({ hasProfile })
          const two = bootBehindOneLine({
            ...HOME,
            hasProfile,
            volunteers: 2,
            faults: [{ volunteer: 1, fault, fromMs }]
          })
          expect(two.waits[0]!.longestMs).toBeLessThan(1000)
          expect(two.waits[0]!.totalMs).toBeLessThan(honest.waits[0]!.totalMs + 3000)
        }
      })
    }
  }

  test('does anything at any time never keeps an honest guest from its blocks', () => {
    const fault = fc.record({
      volunteer: fc.nat({ max: 2 }),
      fault: fc.constantFrom(...FAULTS),
      fromMs: fc.nat({ max: 8000 })
    })
    const worlds = fc.record({
      faults: fc.array(fault, { maxLength: 2 }),
      hasProfile: fc.boolean(),
      rttMs: fc.integer({ min: 10, max: 200 }),
      bytesPerMs: fc.integer({ min: 1000, max: 12_500 }),
      startsMs: fc.array(fc.nat({ max: 3000 }), { minLength: 3, maxLength: 3 })
    })
    fc.assert(
      fc.property(worlds, ({ faults, startsMs, ...line }) => {
        const options = {
          ...HOME,
          ...line,
          blocks: 120,
          volunteers: 3,
          faults,
          startMs: (n: number) => 1 + startsMs[n]!
        }
        const { waits, lineBytes, isOver } = bootBehindOneLine(options)
        expect(isOver).toBe(true)
        // Nobody fetches anything twice but for what a second peer was asked for because it was late.
        expect(lineBytes).toBeLessThan(3.5 * 120 * 40_000)
        const blockMs = 40_000 / line.bytesPerMs
        for (const { longestMs } of waits) expect(longestMs).toBeLessThan(3000 + 3 * line.rttMs + 60 * blockMs)
      }),
      { seed: 20_261_121, numRuns: 60 }
    )
  })
})
