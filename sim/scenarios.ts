/**
 * The worlds of the figures: a name and a seed give all numbers of one.
 *
 * In `exodus` and `liars` the grace is far shorter than the default of seven days, from the least that counts (two TTLs)
 * to a day: so there is less evidence before a version goes, and a run has many occasions to go wrong. In `unused` it is
 * the default.
 */

import type { Random } from '../src/environment.ts'
import { type Fate, type Narrator, type Story, World, type WorldSettings } from './collecting.ts'
import type { Span } from './conspiracy.ts'
import { dice } from './dice.ts'

export const SCENARIOS = ['exodus', 'liars', 'unused'] as const
export type ScenarioName = (typeof SCENARIOS)[number]

const RUNNING_TTL_MS = 30 * 60_000
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const DANGEROUS_MS = 40 * HOUR_MS

/** Everything that one run is made of. */
export function settingsOf(name: ScenarioName, seed: number): WorldSettings {
  const random = dice(seed * 31 + SCENARIOS.indexOf(name))
  switch (name) {
    case 'exodus':
      return { ...dangerous(seed, random), exodus: { atMs: between(6 * HOUR_MS, 24 * HOUR_MS, random), part: 0.3 } }
    case 'liars':
      return { ...dangerous(seed, random), scheme: scheme(random) }
    case 'unused':
      return unused(seed, random)
  }
}

export function runScenario(name: ScenarioName, seed: number, narrate?: Narrator): Fate[] {
  return new World(settingsOf(name, seed), narrate).run()
}

/** Versions that are hardly used, in a world that changes quickly. */
function dangerous(seed: number, random: Random): WorldSettings {
  const lengthMs = DANGEROUS_MS
  const pauses: WorldSettings['pauses'] = chance(0.3, random)
    ? [
        {
          ...spanIn(lengthMs, pick([0.2, 2, 8], random) * HOUR_MS, random),
          clockErrorMs: pick([0, DAY_MS, -DAY_MS], random)
        }
      ]
    : []
  return {
    seed,
    lengthMs,
    peers: 150,
    replicas: pick([0, 3, 20], random),
    graceMs: pick([0, 1, 3, 6, 24], random) * HOUR_MS,
    runningTtlMs: RUNNING_TTL_MS,
    keepTtlMs: pick([2, 20, 60], random) * DAY_MS,
    stayMs: pick([3, 8, 24, 100], random) * HOUR_MS,
    lossRate: pick([0, 0.02, 0.1, 0.2], random),
    wrongClockRate: pick([0, 0.05], random),
    pauses,
    stories: [
      { kind: 'runs' },
      { kind: 'switched-off', machines: 1, offMs: between(0.5, 5, random) * HOUR_MS },
      { kind: 'on-and-off', machines: 2, onMs: 3 * HOUR_MS, offMs: 5 * HOUR_MS }
    ]
  }
}

/** One in ten lies. */
function scheme(random: Random): NonNullable<WorldSettings['scheme']> {
  const floods = chance(0.5, random) ? [spanIn(DANGEROUS_MS, between(0.2, 3, random) * HOUR_MS, random)] : []
  const cries = chance(0.3, random) ? [spanIn(DANGEROUS_MS, between(0.2, 3, random) * HOUR_MS, random)] : []
  const turnMs = chance(0.5, random) ? 0 : between(0, DANGEROUS_MS, random)
  return { rate: 0.1, turnMs, ...(chance(0.6, random) && { replayEveryMs: 20 * 60_000 }), floods, cries }
}

/** One version whose last user leaves; the default grace. In half of the worlds a third of the peers leaves at once. */
function unused(seed: number, random: Random): WorldSettings {
  const graceMs = 7 * DAY_MS
  const endMs = between(6 * HOUR_MS, 4 * DAY_MS, random)
  const story: Story = {
    kind: 'abandoned',
    machines: 1,
    endMs,
    withLayers: chance(0.5, random),
    crash: chance(0.5, random)
  }
  return {
    seed,
    lengthMs: endMs + graceMs + 2 * DAY_MS,
    peers: 150,
    replicas: pick([0, 3, 20], random),
    graceMs,
    runningTtlMs: RUNNING_TTL_MS,
    keepTtlMs: 60 * DAY_MS,
    stayMs: pick([2, 7, 30], random) * DAY_MS,
    lossRate: pick([0, 0.02], random),
    wrongClockRate: 0.02,
    pauses: [],
    ...(chance(0.5, random) && { exodus: { atMs: between(0, endMs + graceMs, random), part: 0.3 } }),
    stories: [story]
  }
}

function between(from: number, to: number, random: Random): number {
  return from + (to - from) * random.unit()
}

function chance(part: number, random: Random): boolean {
  return random.unit() < part
}

function pick<T>(items: readonly T[], random: Random): T {
  return items[Math.floor(random.unit() * items.length)]!
}

function spanIn(lengthMs: number, spanMs: number, random: Random): Span {
  const fromMs = between(0, lengthMs - spanMs, random)
  return { fromMs, untilMs: fromMs + spanMs }
}
