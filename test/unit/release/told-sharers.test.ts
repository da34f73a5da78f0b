import { expect, test } from 'vitest'
import {
  MAX_TELLERS,
  MAX_TOLD_SHARERS,
  type NamingWitness,
  type ToldFound,
  type ToldState,
  toldAfter,
  toldPaused
} from '../../../src/release/told-sharers.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const STEP_MS = 10 * MINUTE_MS
const ANN = 0.25
const BOB = 0.75

/** Holders number `from` and up, who know these sharers for so long. */
const holders = (
  count: number,
  hashes: number[],
  word: { from?: number; tenureMs?: number; forMs?: number } = {}
): NamingWitness[] =>
  Array.from({ length: count }, (_, i) => ({
    peer: `h${i + (word.from ?? 0)}`,
    role: 'holder' as const,
    tenureMs: word.tenureMs ?? 30 * DAY_MS,
    inUseForMs: hashes.length === 0 ? 0 : (word.forMs ?? 50 * DAY_MS),
    hashes
  }))

const NOTHING: ToldState = { sharers: [], tellers: [] }

function after(state: ToldState, witnesses: readonly NamingWitness[], elapsedMs = STEP_MS): ToldFound {
  const tenures = witnesses.filter(({ role }) => role === 'holder').map(({ tenureMs }) => tenureMs)
  return toldAfter(state, {
    witnesses,
    needed: 11,
    tenureMs: tenures.sort((a, b) => b - a)[10],
    knowingTenureMs: HOUR_MS,
    elapsedMs,
    unheardMs: elapsedMs,
    slackMs: MINUTE_MS
  })
}
const stateAfter = (state: ToldState, ...polls: NamingWitness[][]) =>
  polls.reduce((so, witnesses) => after(so, witnesses).state, state)
const quiet = { toldMs: 0, forgottenMs: 0, doubtfulMs: 0 }

test('what somebody tells is in use, for as long as the one who tells the longest says', () => {
  const found = after(NOTHING, [...holders(19, []), ...holders(1, [ANN], { from: 19, forMs: DAY_MS })])
  expect(found).toMatchObject({ toldMs: DAY_MS, forgottenMs: 0 })
  expect(found.state.sharers).toMatchObject([{ hash: ANN, leftMs: DAY_MS }])
})

test('a lease that a majority of those who were told of it deny was given back, however old it is', () => {
  let state = NOTHING
  for (let i = 0; i < 100; i++) state = stateAfter(state, holders(20, [ANN]))
  // None of the holders has been there for as long as the lease.
  expect(after(state, holders(20, [], { tenureMs: 2 * HOUR_MS }))).toMatchObject(quiet)
  expect(after(state, holders(11, [], { tenureMs: 2 * HOUR_MS }))).toMatchObject(quiet)
  expect(after(state, holders(10, [], { tenureMs: 2 * HOUR_MS })).forgottenMs).toBeGreaterThan(49 * DAY_MS)
})

test('those who were never told of a lease cannot deny it, when those who knew it leave one by one', () => {
  let state = stateAfter(NOTHING, holders(20, [ANN]))
  for (let left = 19; left >= 0; left--) {
    const newcomers = holders(20 - left, [], { from: 20, tenureMs: 3 * HOUR_MS })
    for (let i = 0; i < 30; i++) state = stateAfter(state, [...holders(left, [ANN]), ...newcomers])
  }
  expect(after(state, holders(20, [], { from: 20, tenureMs: 3 * HOUR_MS })).forgottenMs).toBeGreaterThan(40 * DAY_MS)
})

test('a sharer that was hidden behind another one is not given back with it', () => {
  let state = stateAfter(NOTHING, holders(20, [BOB], { forMs: 20 * DAY_MS }))
  state = stateAfter(state, holders(20, [ANN, BOB]))
  // Bob's computer is off, and those who know of Bob leave.
  for (let i = 0; i < 10; i++) state = stateAfter(state, holders(20, [ANN], { from: 20, tenureMs: i * STEP_MS }))
  const found = after(state, holders(20, [], { from: 20, tenureMs: 10 * STEP_MS }))
  expect(found.toldMs).toBe(0)
  expect(found.forgottenMs).toBeGreaterThan(19 * DAY_MS)
})

test('what nobody speaks of is over when it must have run out', () => {
  const state = stateAfter(NOTHING, holders(20, [ANN], { forMs: DAY_MS }))
  const strangers = (tenureMs: number) => holders(20, [], { from: 20, tenureMs })
  expect(after(state, strangers(0), DAY_MS - 1)).toMatchObject({ forgottenMs: 1 })
  expect(after(state, strangers(0), DAY_MS)).toMatchObject({ ...quiet, state: { sharers: [] } })
})

test('a sharer that one liar invents is over when the others have been there for as long', () => {
  const state = stateAfter(NOTHING, [...holders(19, []), ...holders(1, [0.5], { from: 19, forMs: 90 * DAY_MS })])
  expect(state.sharers).toHaveLength(1)
  expect(after(state, holders(19, []))).toMatchObject({ ...quiet, state: { sharers: [] } })
})

test('a holder that was away while a lease was given back is not believed against a majority', () => {
  let state = stateAfter(NOTHING, holders(20, [ANN]), holders(19, []))
  for (let i = 0; i < 30; i++) state = stateAfter(state, holders(19, []))
  const back = (tenureMs: number) => holders(1, [ANN], { from: 19, tenureMs })
  expect(after(state, [...holders(19, []), ...back(HOUR_MS)])).toMatchObject(quiet)
  // One that was there all the time is.
  expect(after(state, [...holders(19, []), ...back(DAY_MS)]).toldMs).toBeGreaterThan(0)
  // And a replica that has always been there.
  const replica = { ...back(DAY_MS)[0]!, peer: 'r', role: 'replica' as const }
  expect(after(state, [...holders(19, []), replica]).toldMs).toBeGreaterThan(0)
})

test('while too few of the others have been there for long, such a word is doubtful', () => {
  let state = stateAfter(NOTHING, holders(20, [ANN]))
  for (let i = 0; i < 30; i++) state = stateAfter(state, holders(20, []))
  const back = holders(3, [ANN], { from: 50, tenureMs: STEP_MS })
  const young = holders(10, [], { from: 30, tenureMs: STEP_MS })
  const found = after(state, [...holders(7, []), ...young, ...back])
  expect(found).toMatchObject({ toldMs: 0, forgottenMs: 0 })
  expect(found.doubtfulMs).toBeGreaterThan(0)
  const older = holders(10, [], { from: 30, tenureMs: HOUR_MS })
  expect(after(found.state, [...holders(7, []), ...older, ...back])).toMatchObject(quiet)
})

test('a sharer that begins anew is in use, also among holders that have all just come', () => {
  let state = stateAfter(NOTHING, holders(20, [ANN]))
  for (let i = 0; i < 30; i++) state = stateAfter(state, holders(20, []))
  const anew = after(state, holders(20, [ANN], { from: 40, tenureMs: 0 }))
  expect(anew.toldMs).toBeGreaterThan(0)
  // It is remembered like any other.
  expect(after(anew.state, holders(20, [], { from: 60, tenureMs: 0 })).forgottenMs).toBeGreaterThan(0)
})

test('after a long pause nothing counts as given back any more, and everything as older', () => {
  const state = stateAfter(NOTHING, holders(20, [ANN, BOB]), holders(20, [BOB]))
  expect(state.sharers.map(({ givenBackForMs }) => givenBackForMs)).toEqual([0, undefined])
  expect(toldPaused(state, STEP_MS, false).sharers).toHaveLength(2)
  const [bob, ...others] = toldPaused(state, DAY_MS, true).sharers
  expect(others).toEqual([])
  // Not shorter: the clock may have been set meanwhile.
  expect(bob).toMatchObject({ hash: BOB, ageMs: 2 * STEP_MS + DAY_MS, leftMs: 50 * DAY_MS })
})

test('sharers are bounded, and those without a place are told as a number', () => {
  const many = Array.from({ length: MAX_TOLD_SHARERS }, (_, i) => i / 10_000)
  const state = stateAfter(NOTHING, holders(1, many, { forMs: DAY_MS }))
  const found = after(state, [...holders(1, many, { forMs: DAY_MS }), ...holders(1, [0.9], { from: 1 })])
  expect(found.state.sharers).toHaveLength(MAX_TOLD_SHARERS)
  expect(found).toMatchObject({ toldMs: 50 * DAY_MS, surplusMs: 50 * DAY_MS })
})

test('tellers are bounded: those who are there take the places of those who left', () => {
  let state = NOTHING
  for (let from = 0; from < 200; from += 20) state = stateAfter(state, holders(20, [ANN], { from }))
  expect(state.tellers).toHaveLength(MAX_TELLERS)
  expect(after(state, holders(20, [], { from: 180 }))).toMatchObject(quiet)
  // The bits of those who left are not theirs who came.
  expect(after(state, holders(20, [], { from: 500, tenureMs: 0 })).forgottenMs).toBeGreaterThan(0)
})
