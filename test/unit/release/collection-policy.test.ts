import { expect, test } from 'vitest'
import {
  CIRCLE_MEMORY_MS,
  type CollectionState,
  MAX_CLAIM_MS,
  MAX_GAP_MS,
  maxUnsureMs,
  newCollectionState,
  observe,
  type Poll,
  type PollWitness,
  paused,
  useLeftMs,
  windowMs
} from '../../../src/release/collection-policy.ts'
import { MAX_CLAIMS } from '../../../src/release/told-claims.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const SETTINGS = { graceMs: 2 * HOUR_MS, runningTtlMs: 30 * MINUTE_MS }
const STEP_MS = 10 * MINUTE_MS

const holders = (count: number, word: Partial<PollWitness> = {}): PollWitness[] =>
  Array.from({ length: count }, (_, i) => ({
    peer: `h${i}`,
    role: 'holder' as const,
    tenureMs: 30 * DAY_MS,
    inUseForMs: 0,
    ...word
  }))
const quiet: Poll = { holdersAsked: 20, witnesses: holders(20) }
const told = (inUseForMs: number, word: Partial<PollWitness> = {}): Poll => ({
  holdersAsked: 20,
  witnesses: holders(20, { inUseForMs, ...word })
})

function after(state: CollectionState, polls: readonly (Poll | null)[], elapsedMs = STEP_MS): CollectionState {
  return polls.reduce<CollectionState>(
    (so, poll) => observe(so, { poll, elapsedMs, pointedAt: false }, SETTINGS),
    state
  )
}
const times = (count: number, poll: Poll | null) => Array.from({ length: count }, () => poll)

test('the window is the grace, or twice the running TTL where that is longer', () => {
  expect(windowMs({ graceMs: HOUR_MS, runningTtlMs: MINUTE_MS })).toBe(HOUR_MS)
  expect(windowMs({ graceMs: MINUTE_MS, runningTtlMs: HOUR_MS })).toBe(2 * HOUR_MS)
})

test('a run of clean polls is as long as the time from its first poll to its last', () => {
  const state = after(newCollectionState(), times(13, quiet))
  expect(state).toMatchObject({ unusedForMs: 12 * STEP_MS, polls: 13, last: { kind: 'clean' } })
  expect(state.sinceUseMs).toBeUndefined()
})

test.each<[string, Poll | null, object]>([
  [
    'a holder that knows a lease',
    { ...quiet, witnesses: [...holders(19), ...holders(1, { inUseForMs: MINUTE_MS })] },
    { kind: 'in-use', forMs: MINUTE_MS }
  ],
  [
    'a replica that knows a lease',
    { ...quiet, witnesses: [...holders(20), { peer: 'r', role: 'replica', tenureMs: 0, inUseForMs: 5 }] },
    { kind: 'in-use', forMs: 5 }
  ]
])('%s ends the run', (_, poll, last) => {
  const before = after(newCollectionState(), times(13, quiet))
  const state = after(before, [poll])
  expect(state).toMatchObject({ unusedForMs: 0, polls: 0, last })
  expect(after(state, [quiet, quiet]).unusedForMs).toBeLessThanOrEqual(STEP_MS)
})

const unsure: [string, Poll | null, object][] = [
  ['a poll that failed', null, { kind: 'failed' }],
  ['half of the holders', { ...quiet, witnesses: holders(10) }, { kind: 'no-majority', answered: 10, needed: 11 }],
  [
    'a majority that is there only with holders that have just come',
    { ...quiet, witnesses: [...holders(10), ...holders(10, { tenureMs: HOUR_MS - MINUTE_MS })] },
    { kind: 'young', tenureMs: HOUR_MS - MINUTE_MS, neededMs: HOUR_MS }
  ],
  [
    'replicas in place of holders',
    { ...quiet, witnesses: [...holders(10), ...holders(10, { role: 'replica' })] },
    { kind: 'no-majority', answered: 10, needed: 11 }
  ]
]
test.each(unsure)('%s neither counts nor ends the run, unless it lasts', (_, poll, last) => {
  const before = after(newCollectionState(), times(13, quiet))
  const most = maxUnsureMs(SETTINGS) / STEP_MS
  const state = after(before, times(most - 1, poll))
  expect(state).toMatchObject({ unusedForMs: 12 * STEP_MS, polls: 13, last })
  expect(after(state, [quiet])).toMatchObject({ unusedForMs: (12 + most) * STEP_MS, polls: 14 })
  expect(after(state, [poll, poll])).toMatchObject({ unusedForMs: 0, polls: 0, last })
  expect(after(state, [poll, quiet])).toMatchObject({ unusedForMs: 0, polls: 1 })
})

test('a bare majority of old holders is enough', () => {
  const poll = { holdersAsked: 20, witnesses: holders(11, { tenureMs: HOUR_MS }) }
  expect(after(newCollectionState(), times(3, poll)).unusedForMs).toBe(2 * STEP_MS)
})

test('a gap between two polls that is longer than holders remember ends the run', () => {
  const before = after(newCollectionState(), times(4, quiet))
  expect(after(before, [quiet], MAX_GAP_MS).polls).toBe(5)
  expect(after(before, [quiet], MAX_GAP_MS + 1)).toMatchObject({ polls: 1, unusedForMs: 0 })
})

test('a use that old holders no longer know was given back', () => {
  const used = after(newCollectionState(), [quiet, told(50 * DAY_MS)])
  expect(useLeftMs(used)).toBe(50 * DAY_MS)
  expect(after(used, [quiet])).toMatchObject({ claims: [], last: { kind: 'clean' }, sinceUseMs: STEP_MS })
})

test('a use that nobody left knows keeps its version until it would have run out', () => {
  const used = after(newCollectionState(), [quiet, told(DAY_MS)])
  let elapsedMs = 0
  let state = used
  for (; useLeftMs(state) > 0; elapsedMs += STEP_MS) {
    // All holders are new, and grow older as the time goes.
    state = after(state, [told(0, { tenureMs: elapsedMs })])
    if (useLeftMs(state) > 0)
      expect(state).toMatchObject({ last: { kind: 'forgotten' }, sinceUseMs: 0, unusedForMs: 0 })
  }
  expect(elapsedMs).toBe(DAY_MS)
})

test('holders that came after a lease was put do not make it given back, when those who knew it leave one by one', () => {
  const used = after(newCollectionState(), [quiet, told(50 * DAY_MS)])
  const few = {
    holdersAsked: 20,
    witnesses: [...holders(3, { inUseForMs: 49 * DAY_MS }), ...holders(17, { tenureMs: HOUR_MS })]
  }
  const late = after(used, times(144, few))
  const none = { holdersAsked: 20, witnesses: holders(20, { tenureMs: 25 * HOUR_MS - 145 * STEP_MS }) }
  expect(after(late, [none])).toMatchObject({ last: { kind: 'forgotten' }, unusedForMs: 0 })
})

test('a use that was hidden behind a longer one is remembered when the longer one was given back', () => {
  const both = after(newCollectionState(), [quiet, told(10 * DAY_MS), told(60 * DAY_MS)])
  expect(both.claims).toHaveLength(2)
  // These heard of the longer one only: they came between the two.
  const later = told(0, { tenureMs: 2 * STEP_MS + MINUTE_MS })
  const state = after(both, [later])
  expect(useLeftMs(state)).toBe(10 * DAY_MS - 2 * STEP_MS)
})

test('a lease that may have been put while nobody could be asked is as old as that silence', () => {
  const silent = after(newCollectionState(), [quiet, ...times(30, null), told(DAY_MS)])
  expect(silent.claims[0]!.ageMs).toBe(31 * STEP_MS)
})

test('claims are bounded, and two that become one protect at least as much', () => {
  let state = after(newCollectionState(), [quiet])
  for (let i = 1; i <= 3 * MAX_CLAIMS; i++) state = after(state, [told(30 * DAY_MS + i * HOUR_MS, { tenureMs: 0 })])
  expect(state.claims).toHaveLength(MAX_CLAIMS)
  expect(useLeftMs(state)).toBe(30 * DAY_MS + 3 * MAX_CLAIMS * HOUR_MS)
  expect(state.claims[0]!.ageMs).toBe(3 * MAX_CLAIMS * STEP_MS)
  for (const [i, { leftMs, ageMs }] of state.claims.slice(1).entries()) {
    expect(leftMs).toBeGreaterThan(state.claims[i]!.leftMs)
    expect(ageMs).toBeLessThan(state.claims[i]!.ageMs)
  }
})

test('nobody can tell of a use for ever', () => {
  expect(useLeftMs(after(newCollectionState(), [told(Number.MAX_SAFE_INTEGER)]))).toBe(MAX_CLAIM_MS)
})

test('who has lost the network and finds only itself has no majority', () => {
  const alone = { holdersAsked: 1, witnesses: holders(1) }
  const state = after(after(newCollectionState(), [quiet]), times(100, alone))
  expect(state.last).toEqual({ kind: 'no-majority', answered: 1, needed: 11 })
})

test('a network that has become smaller is believed in the end', () => {
  const five = { holdersAsked: 5, witnesses: holders(5) }
  let state = after(newCollectionState(), [quiet])
  state = after(state, [five], CIRCLE_MEMORY_MS)
  expect(state.last).toMatchObject({ kind: 'no-majority' })
  state = after(state, [five, five, five], CIRCLE_MEMORY_MS)
  expect(state.last).toMatchObject({ kind: 'clean' })
})

test('alone from the beginning it is a circle of one', () => {
  const alone = { holdersAsked: 1, witnesses: holders(1) }
  expect(after(newCollectionState(), [alone]).last.kind).toBe('clean')
  expect(after(newCollectionState(), [{ holdersAsked: 0, witnesses: [] }]).last.kind).toBe('no-majority')
})

test('a short pause keeps the run but counts for nothing; a long or unknown one ends it', () => {
  const before = after(newCollectionState(), times(4, quiet))
  expect(paused(before, MAX_GAP_MS)).toMatchObject({ unusedForMs: 3 * STEP_MS, polls: 4 })
  for (const pauseMs of [MAX_GAP_MS + 1, -1, Number.NaN, undefined]) {
    expect(paused(before, pauseMs)).toMatchObject({ unusedForMs: 0, polls: 0 })
  }
})

test('a pause makes claims older and no shorter', () => {
  const used = after(newCollectionState(), [quiet, told(50 * DAY_MS)])
  const [claim] = paused(used, 2 * DAY_MS).claims
  expect(claim).toEqual({ leftMs: 50 * DAY_MS, ageMs: STEP_MS + 2 * DAY_MS })
})

test('the time since no channel points at a version begins anew when one does', () => {
  let state = after(newCollectionState(), times(4, quiet))
  expect(state.supersededForMs).toBe(3 * STEP_MS)
  state = observe(state, { poll: quiet, elapsedMs: STEP_MS, pointedAt: true }, SETTINGS)
  expect(state.supersededForMs).toBeUndefined()
  expect(state.polls).toBe(5)
  expect(after(state, [quiet]).supersededForMs).toBe(0)
})
