import { describe, expect, test } from 'vitest'
import { World } from '../../../sim/collecting.ts'
import { REAL_POLICY } from '../../../sim/publisher.ts'
import { runScenario, SCENARIOS, settingsOf } from '../../../sim/scenarios.ts'

const SEEDS = 4

describe('worlds from a seed', () => {
  test.each(SCENARIOS)('%s: are the same for the same seed, to the last word', scenario => {
    const tell = (seed: number) => {
      const told: string[] = []
      runScenario(scenario, seed, (now, what) => told.push(`${now} ${what}`))
      return told.join('\n')
    }
    const first = tell(3)
    expect(first.length).toBeGreaterThan(10_000)
    expect(tell(3) === first).toBe(true)
    expect(tell(4) === first).toBe(false)
  })

  test.each(['exodus', 'liars'] as const)('%s: nothing in use is collected', scenario => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      expect(runScenario(scenario, seed).filter(({ wasInUse }) => wasInUse)).toEqual([])
    }
  })

  test('unused: what nobody uses is gone after the grace and three TTLs', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { graceMs, runningTtlMs } = settingsOf('unused', seed)
      for (const { removedMs, unusedSinceMs, wasInUse } of runScenario('unused', seed)) {
        expect(wasInUse).toBe(false)
        expect(removedMs! - unusedSinceMs!).toBeLessThanOrEqual(graceMs + 3 * runningTtlMs)
        expect(removedMs! - unusedSinceMs!).toBeGreaterThanOrEqual(graceMs)
      }
    }
  })
})

describe('the checkers', () => {
  test('see that a policy that believes the first silence collects what is in use', () => {
    const reckless: typeof REAL_POLICY = {
      ...REAL_POLICY,
      judge: (_, { last }) =>
        last.kind === 'in-use'
          ? { action: 'keep', reasons: [{ code: 'in-use', words: '', mayForce: true }] }
          : { action: 'remove' }
    }
    const lost = Array.from({ length: 10 }, (_, seed) => seed).flatMap(seed =>
      new World(settingsOf('exodus', seed), undefined, reckless).run().filter(({ wasInUse }) => wasInUse)
    )
    expect(lost.length).toBeGreaterThan(0)
  })

  test('see that a policy that never lets go keeps what nobody uses', () => {
    const timid: typeof REAL_POLICY = {
      ...REAL_POLICY,
      judge: () => ({ action: 'keep', reasons: [{ code: 'in-use', words: '', mayForce: true }] })
    }
    const [fate] = new World(settingsOf('unused', 1), undefined, timid).run()
    expect(fate!.removedMs).toBeUndefined()
    expect(fate!.unusedSinceMs).toBeGreaterThan(0)
  })
})
