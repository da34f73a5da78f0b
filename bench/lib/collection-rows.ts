/**
 * Rows of the directory's table about collection: worlds of sim/scenarios.ts, one for each seed, and what came of them.
 *
 * Beside whether the goal was reached, each row says how bad the worst seed was, so that it can be replayed:
 * `node sim/replay.ts SCENARIO SEED`.
 */
import type { Fate } from '../../sim/collecting.ts'
import { runScenario, type ScenarioName, settingsOf } from '../../sim/scenarios.ts'

export interface Row {
  name: string
  goal: string
  measured: string
  reached: boolean
  values: Record<string, unknown>
}

interface Seeded extends Fate {
  seed: number
}

const MANY_LIARS = 6

export function collectionRows(seeds: number): Row[] {
  return [
    inUseNeverCollected(
      'exodus',
      seeds,
      '30 % of the peers leaving in one minute, half of the holders among them: versions in use that are collected'
    ),
    inUseNeverCollected('liars', seeds, '10 % of the peers lying: versions in use that are collected'),
    unusedIsGone(seeds)
  ]
}

function inUseNeverCollected(scenario: ScenarioName, seeds: number, name: string): Row {
  const fates = fatesOf(scenario, seeds)
  const lost = fates.filter(({ wasInUse }) => wasInUse)
  const worst = worstOf(fates, ({ closest }) => closest)
  const crowded = worstOf(fates, ({ liars }) => liars)
  const unknown = fates.filter(({ fewest }) => fewest === 0)
  const collected = fates.filter(({ removedMs, wasInUse }) => removedMs !== undefined && !wasInUse)
  return {
    name,
    goal: `none in ${seeds} seeds`,
    measured: `${lost.length}; worst: seen unused for ${percent(worst.closest)} of the window (seed ${worst.seed})`,
    reached: lost.length === 0,
    values: {
      scenario,
      seeds,
      versions: fates.length,
      lost: lost.map(({ seed, release }) => ({ seed, release })),
      worst: { partOfWindow: worst.closest, seed: worst.seed, story: worst.story },
      // While somebody used them, no witness that answered knew: only what the publisher remembers kept these.
      knownToNobodyAtTimes: unknown.length,
      collectedWhenUnused: collected.length,
      ...(scenario === 'liars' && {
        mostLiarsAmongHolders: { liars: crowded.liars, seed: crowded.seed },
        versionsWithSixLiarsOrMore: fates.filter(({ liars }) => liars >= MANY_LIARS).length
      })
    }
  }
}

function unusedIsGone(seeds: number): Row {
  const late = fatesOf('unused', seeds).map(fate => ({ ...fate, ttls: ttlsAfterGrace(fate) }))
  const inTime = late.filter(({ ttls }) => ttls <= 3).length / late.length
  const worst = worstOf(late, ({ ttls }) => ttls)
  const lost = late.filter(({ wasInUse }) => wasInUse)
  return {
    name: 'an unused version is gone (half of the worlds with such an exodus, no liars)',
    goal: '≤ grace + 3 TTL in 99 % of the seeds',
    measured: `${percent(inTime)}; worst: grace + ${worst.ttls.toFixed(1)} TTL (seed ${worst.seed})`,
    reached: inTime >= 0.99 && lost.length === 0,
    values: {
      scenario: 'unused',
      seeds,
      inTime,
      worst: { ttlsAfterGrace: worst.ttls === Infinity ? null : worst.ttls, seed: worst.seed },
      notInTime: late.filter(({ ttls }) => ttls > 3).map(({ seed }) => seed),
      lost: lost.map(({ seed }) => seed)
    }
  }
}

/** How long after its last use, and the grace, a version went, in TTLs of running leases. */
function ttlsAfterGrace({ seed, removedMs, unusedSinceMs }: Seeded): number {
  const { graceMs, runningTtlMs } = settingsOf('unused', seed)
  return removedMs === undefined ? Infinity : (removedMs - unusedSinceMs! - graceMs) / runningTtlMs
}

function fatesOf(scenario: ScenarioName, seeds: number): Seeded[] {
  const fates: Seeded[] = []
  for (let seed = 1; seed <= seeds; seed++) {
    for (const fate of runScenario(scenario, seed)) fates.push({ ...fate, seed })
  }
  return fates
}

function worstOf<T>(items: readonly T[], badness: (item: T) => number): T {
  return items.reduce((worst, item) => (badness(item) > badness(worst) ? item : worst))
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`
}
