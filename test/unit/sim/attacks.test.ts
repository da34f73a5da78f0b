/**
 * Each named attack on the counting of sharers and on collection, in a small world. The comment of a test names the
 * defence: without that line the test fails.
 *
 * Attacks on a single holder are in test/unit/directory/held-leases.test.ts, those on the policy in
 * test/unit/release/collection-policy.test.ts and told-sharers.test.ts.
 */
import { describe, expect, test } from 'vitest'
import { type Fate, type Story, World, type WorldSettings } from '../../../sim/collecting.ts'
import type { Scheme } from '../../../sim/conspiracy.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const NEVER_MS = 1e15
/** They say that nobody uses it, that they have known it for a year, and that every lease may rest. */
const WITHHOLDING: Scheme = { rate: 0, turnMs: 0, floods: [], cries: [] }
const RUNS: Story = { kind: 'runs' }
const SWITCHED_OFF: Story = { kind: 'switched-off', machines: 1, offMs: HOUR_MS }

/** Peers that stay, and the shortest window that there is: an hour. */
function world(story: Story, values: Partial<WorldSettings> = {}): WorldSettings {
  return {
    seed: 1,
    lengthMs: 12 * HOUR_MS,
    peers: 150,
    replicas: 0,
    graceMs: 0,
    runningTtlMs: HOUR_MS / 2,
    keepTtlMs: 60 * DAY_MS,
    stayMs: NEVER_MS,
    lossRate: 0,
    wrongClockRate: 0,
    pauses: [],
    stories: [story],
    ...values
  }
}

function fateOf(settings: WorldSettings): Fate {
  const [fate] = new World(settings).run()
  return fate!
}

/** Nothing protects what nobody uses: else a version that stays would show nothing. */
function goesWhenUnused(values: Partial<WorldSettings>): void {
  const fate = fateOf(
    world({ kind: 'abandoned', machines: 1, endMs: 2 * HOUR_MS, withLayers: false, crash: true }, values)
  )
  expect(fate.removedMs).toBeDefined()
  expect(fate.wasInUse).toBe(false)
}

describe('withholding', () => {
  test('all holders but one say that nobody uses a version: the one is believed', () => {
    // Line: `toldMs` over all that tell, in told-sharers.ts (one witness of a use is enough).
    const values = { scheme: { ...WITHHOLDING, closest: 19 } }
    goesWhenUnused(values)
    expect(fateOf(world(RUNS, values))).toMatchObject({ removedMs: undefined, closest: 0, liars: 19 })
  })

  test('all holders say so: a replica that met the sharer is believed', () => {
    // Line: `const witnesses = …` in collection-policy.ts (replicas are among the witnesses), and `tellReplicas` of leases.
    const values = { replicas: 8, scheme: { ...WITHHOLDING, closest: 20 } }
    goesWhenUnused(values)
    expect(fateOf(world(RUNS, values))).toMatchObject({ removedMs: undefined, closest: 0, liars: 20 })
  })

  test('the honest half of the holders leaves before the publisher hears of anything: the lying half is no majority', () => {
    // Line: `needed` in collection-policy.ts (a majority of all that were asked).
    const fate = fateOf(
      world(SWITCHED_OFF, {
        exodus: { atMs: 2 * HOUR_MS, part: 0.3 },
        pauses: [{ fromMs: 0, untilMs: 2.5 * HOUR_MS, clockErrorMs: 0 }],
        lengthMs: 4 * HOUR_MS,
        scheme: { ...WITHHOLDING, closest: 10 }
      })
    )
    expect(fate).toMatchObject({ removedMs: undefined, fewest: 0 })
    expect(fate.liars).toBeGreaterThanOrEqual(9)
  })
})

describe('inventing', () => {
  test('a crowd that cries that a version is in use keeps it no longer than it cries', () => {
    // Line: `if (poll.tenureMs … >= sharer.ageMs …) continue` in told-sharers.ts.
    const cries = [{ fromMs: 0, untilMs: 5 * HOUR_MS }]
    const story: Story = { kind: 'abandoned', machines: 1, endMs: HOUR_MS, withLayers: false, crash: true }
    const fate = fateOf(world(story, { scheme: { ...WITHHOLDING, closest: 6, cries } }))
    expect(fate.removedMs).toBeGreaterThan(5 * HOUR_MS)
    expect(fate.removedMs).toBeLessThan(7 * HOUR_MS)
  })

  test('a longer use that is invented does not make a real one forgotten that all have forgotten', () => {
    // Line: `found.forgottenMs = …` in told-sharers.ts (each sharer is remembered by itself).
    const cries = [{ fromMs: 20 * HOUR_MS, untilMs: 21 * HOUR_MS }]
    const scheme = { ...WITHHOLDING, rate: 0.1, cries }
    const fates = Array.from({ length: 5 }, (_, seed) =>
      fateOf(world(SWITCHED_OFF, { seed, stayMs: 3 * HOUR_MS, lengthMs: 40 * HOUR_MS, scheme }))
    )
    expect(fates.filter(({ wasInUse }) => wasInUse)).toEqual([])
    expect(fates.filter(({ fewest }) => fewest === 0).length).toBeGreaterThan(0)
  })
})

describe('replaying', () => {
  const machines: Story = { kind: 'abandoned', machines: 3, endMs: 4 * HOUR_MS, withLayers: true, crash: false }

  test('leases that were given back do not come back where that was heard', () => {
    // Line: `this.#add(key, lease)` in #giveBack of held-leases.ts (what was given back is remembered).
    const scheme = { ...WITHHOLDING, closest: 4, replayEveryMs: 10 * 60_000 }
    const fate = fateOf(world(machines, { scheme, replicas: 8 }))
    expect(fate.removedMs).toBeGreaterThan(4 * HOUR_MS)
    expect(fate.removedMs).toBeLessThan(6 * HOUR_MS)
  })

  test('old tombstones take nothing back of who came again', () => {
    // Line: `if (known !== undefined) return …` in held-leases.ts (what is older than what is here is refused).
    const story: Story = { kind: 'on-and-off', machines: 2, onMs: 2 * HOUR_MS, offMs: HOUR_MS }
    const scheme = { ...WITHHOLDING, closest: 4, replayEveryMs: 10 * 60_000 }
    const fates = Array.from({ length: 4 }, (_, seed) => fateOf(world(story, { seed, scheme })))
    // All honest holders know of it whenever they are asked.
    expect(Math.min(...fates.map(({ fewest }) => fewest))).toBeGreaterThanOrEqual(16)
  })
})

describe('grinding', () => {
  const flooded = (seed: number, minutes: number, closest: number) => {
    const fromMs = HOUR_MS * (1 + seed / 4)
    const floods = [{ fromMs, untilMs: fromMs + minutes * 60_000 }]
    return fateOf(world(RUNS, { seed, lengthMs: 5 * HOUR_MS, scheme: { ...WITHHOLDING, closest, floods } }))
  }

  test('tables are filled with small hashes that lapse together: every holder still knows of the one pushed out', () => {
    // Line: `key.unkeptUntilMs = untilMs` in #unkept of held-leases.ts.
    for (let seed = 0; seed < 4; seed++) expect(flooded(seed, 12, 0).fewest).toBe(20)
  })

  test('the same while liars among the holders let the sharer rest: it is seen again within the window', () => {
    // Line: `lease.probed(…)` in #probe of own-leases.ts (here user.ts): one holder, drawn by lot, is asked in each TTL.
    for (let seed = 0; seed < 4; seed++) {
      const { removedMs, closest } = flooded(seed, 30, 4)
      expect(removedMs).toBeUndefined()
      expect(closest).toBeLessThan(1)
    }
  })
})

test('all holders that know of a switched-off machine leave, one by one: the publisher remembers it', () => {
  // Line: `found.forgottenMs = …` in told-sharers.ts.
  const fates = Array.from({ length: 5 }, (_, seed) =>
    fateOf(world(SWITCHED_OFF, { seed, stayMs: 3 * HOUR_MS, lengthMs: 40 * HOUR_MS }))
  )
  expect(fates.filter(({ wasInUse }) => wasInUse)).toEqual([])
  expect(fates.filter(({ fewest }) => fewest === 0).length).toBeGreaterThan(0)
})

describe('clocks', () => {
  test.each([-DAY_MS, 0, DAY_MS])(
    'the publisher’s is set by %i ms while it is off and all peers leave',
    clockErrorMs => {
      // Line: `toldPaused` in told-sharers.ts (what was told outlives a pause, and is no shorter for what the clock says).
      const settings = world(SWITCHED_OFF, {
        lengthMs: 29 * HOUR_MS,
        keepTtlMs: 30 * HOUR_MS,
        exodus: { atMs: 4 * HOUR_MS, part: 1 },
        pauses: [{ fromMs: 3 * HOUR_MS, untilMs: 12 * HOUR_MS, clockErrorMs }]
      })
      expect(fateOf(settings)).toMatchObject({ removedMs: undefined, fewest: 0 })
      // When the lease has run out by the time that this publisher saw pass, it goes.
      expect(fateOf({ ...settings, lengthMs: 3 * DAY_MS }).removedMs).toBeGreaterThan(31 * HOUR_MS)
    }
  )

  test('half of the holders live a day before or after the others: the rest is believed', () => {
    // Line: `toldMs` over all that tell, in told-sharers.ts.
    const values = { wrongClockRate: 0.5 }
    goesWhenUnused(values)
    for (let seed = 0; seed < 5; seed++) {
      expect(fateOf(world(RUNS, { seed, ...values }))).toMatchObject({ removedMs: undefined, closest: 0 })
    }
  })
})
