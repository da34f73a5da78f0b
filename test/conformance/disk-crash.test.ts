/**
 * The three promises of a layer, against every moment at which a daemon can die or the power go.
 *
 * A history is a row of guest requests, crashes and reopenings. After each life every prefix of its file operations is
 * replayed: as the daemon's death (all of it happened, the last one perhaps in part, same boot id) and as a power loss
 * (each sector any of its versions since the last sync, another boot id). See support/ for the models.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  CrashHistory,
  type HistorySettings,
  REGION_SECTORS,
  REGIONS,
  type Step
} from '../unit/disk/support/crash-history.ts'

const change = fc.record({
  do: fc.constantFrom('write' as const, 'write' as const, 'zero' as const),
  region: fc.nat(REGIONS.length - 1),
  from: fc.nat((REGION_SECTORS - 1) * 16).map(n => n / 16),
  length: fc.integer({ min: 1, max: 6 * 16 }).map(n => n / 16),
  fua: fc.nat(7).map(n => n === 0)
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: change },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('flush' as const), wait: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('step' as const), which: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('settle' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      how: fc.constantFrom('death' as const, 'power-loss' as const)
    })
  }
)
const steps = fc.array(step, { minLength: 5, maxLength: 40, size: 'max' })
const limits = fc.constantFrom(
  { logAreaBytes: 900, maxChangedPages: 100, maxLoggedBytes: 0 },
  { logAreaBytes: 4000, maxChangedPages: 100, maxCleanPages: 2, maxLoggedBytes: 1024 },
  { logAreaBytes: 2500, maxChangedPages: 2, maxCleanPages: 2, maxLoggedBytes: 4096 },
  { logAreaBytes: 100_000, maxChangedPages: 100, maxLoggedBytes: 8192 }
)

async function survives(history: Step[], settings: Omit<HistorySettings, 'random'>, seed: number): Promise<number> {
  const crashes = new CrashHistory({ ...settings, random: randomRow(seed) })
  await crashes.run(history)
  return crashes.momentsTried
}

test('every acknowledged write survives the death of the daemon, every flushed one a power loss', async () => {
  let moments = 0
  const property = fc.asyncProperty(steps, limits, fc.boolean(), fc.nat(), async (history, limit, unaligned, seed) => {
    moments += await survives(history, { limits: limit, unaligned }, seed)
  })
  await fc.assert(property, { seed: 20_261_121, numRuns: 120 })
  expect(moments).toBeGreaterThan(5_000)
})

test('after an fdatasync that fails, what was flushed before is there, and nothing is called flushed that is not', async () => {
  const property = fc.asyncProperty(steps, limits, fc.nat(12), fc.nat(), async (history, limit, failSync, seed) => {
    await survives(history, { limits: limit, unaligned: false, failSync }, seed)
  })
  await fc.assert(property, { seed: 20_261_122, numRuns: 60 })
})

test('a disk that is full at any write loses nothing of what came before', async () => {
  const property = fc.asyncProperty(steps, limits, fc.nat(60), fc.nat(), async (history, limit, failWrite, seed) => {
    await survives(history, { limits: limit, unaligned: false, failWrite, failWriteCode: 'DISK_FULL' }, seed)
  })
  await fc.assert(property, { seed: 20_261_123, numRuns: 60 })
})

test('reads that fail are errors of that request or opening alone: repeated, it finds all that was there', async () => {
  let [moments, failed] = [0, 0]
  // Whole sectors: where a write that has to read first fails, the model could not tell what its sector holds.
  const property = fc.asyncProperty(steps, limits, fc.nat(), async (history, limit, seed) => {
    const crashes = new CrashHistory({ limits: limit, unaligned: false, failReads: 24, random: randomRow(seed) })
    await crashes.run(history)
    moments += crashes.momentsTried
    failed += crashes.failedReads
  })
  await fc.assert(property, { seed: 20_261_126, numRuns: 25 })
  expect(moments).toBeGreaterThan(2_000)
  expect(failed).toBeGreaterThan(1_000)
})

test('a map of the first format is taken over at any moment, also while a sync fails', async () => {
  let moments = 0
  const property = fc.asyncProperty(steps, limits, fc.nat(24), fc.nat(), async (history, limit, fails, seed) => {
    const failSync = fails < 12 ? { failSync: fails } : {}
    moments += await survives(history, { limits: limit, unaligned: false, firstFormatMap: true, ...failSync }, seed)
  })
  await fc.assert(property, { seed: 20_261_127, numRuns: 30 })
  expect(moments).toBeGreaterThan(1_000)
})

/** What long runs of the properties above have found, with few and many choices of what reached the disk. */
const FOUND: {
  what: string
  steps: Step[]
  limits: HistorySettings['limits']
  unaligned: boolean
  failSync?: number
  failReads?: number
}[] = [
  {
    what: 'a write with FUA whose flush could not read what it wrote is old or new',
    steps: [
      { do: 'write', region: 0, from: 0, length: 0.0625, fua: true },
      { do: 'write', region: 0, from: 0, length: 0.0625, fua: true },
      { do: 'flush', wait: false },
      { do: 'write', region: 0, from: 0, length: 0.0625, fua: true },
      { do: 'write', region: 0, from: 0, length: 0.0625, fua: true },
      { do: 'step', which: 0 }
    ],
    limits: { logAreaBytes: 100_000, maxChangedPages: 100, maxLoggedBytes: 8192 },
    unaligned: false,
    failReads: 24
  },
  {
    what: 'what a failed sync did not write, and the next daemon showed, is flushed by that one',
    steps: [
      { do: 'write', region: 0, from: 0, length: 2, fua: false },
      { do: 'flush', wait: true },
      { do: 'write', region: 0, from: 0, length: 2, fua: false },
      { do: 'flush', wait: true },
      { do: 'crash', how: 'death' },
      { do: 'flush', wait: true }
    ],
    limits: { logAreaBytes: 4000, maxChangedPages: 100, maxLoggedBytes: 0 },
    unaligned: false,
    failSync: 2
  },
  {
    what: 'the mark of a failed layer is not of a generation that comes again with the same number',
    steps: [
      { do: 'write', region: 0, from: 0, length: 2, fua: false },
      { do: 'flush', wait: true },
      { do: 'crash', how: 'power-loss' },
      { do: 'write', region: 0, from: 0, length: 1, fua: false },
      { do: 'settle' },
      { do: 'flush', wait: false }
    ],
    limits: { logAreaBytes: 4000, maxChangedPages: 100, maxLoggedBytes: 1024 },
    unaligned: false,
    failSync: 0
  },
  {
    what: 'an area of the log that a dead daemon called free may be needed after a power loss',
    steps: [
      { do: 'write', region: 0, from: 0, length: 0.0625, fua: true },
      { do: 'step', which: 0 },
      { do: 'step', which: 0 },
      { do: 'write', region: 0, from: 0, length: 1.0625, fua: true },
      { do: 'crash', how: 'death' },
      { do: 'step', which: 0 },
      { do: 'step', which: 0 },
      { do: 'write', region: 0, from: 0, length: 0.0625, fua: false },
      { do: 'step', which: 0 },
      { do: 'write', region: 0, from: 2, length: 0.0625, fua: true }
    ],
    limits: { logAreaBytes: 2500, maxChangedPages: 2, maxLoggedBytes: 4096 },
    unaligned: true
  }
]
for (const { what, steps: history, ...settings } of FOUND) {
  test(what, async () => {
    for (let seed = 1; seed <= 12; seed++) await survives(history, settings, seed * 7919)
  })
}

/** A linear congruential generator (Numerical Recipes); good enough to choose. */
function randomRow(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
