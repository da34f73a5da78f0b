import { expect, test } from 'vitest'
import { type CollectionState, newCollectionState, type PollOutcome } from '../../../src/release/collection-policy.ts'
import { earliestMs, judge, type VersionFacts } from '../../../src/release/collection-verdict.ts'
import { spellDuration } from '../../../src/release/spell.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const SETTINGS = { graceMs: 7 * DAY_MS, runningTtlMs: HOUR_MS / 2 }
const NOTHING: VersionFacts = { channels: [], rollouts: [], isOnly: false, machines: [], isReplicated: false }

const unused = (change: Partial<CollectionState> = {}): CollectionState => ({
  ...newCollectionState(),
  unusedForMs: 7 * DAY_MS,
  polls: 500,
  supersededForMs: 7 * DAY_MS,
  last: { kind: 'clean' },
  ...change
})
const reasonsOf = (facts: Partial<VersionFacts>, state: CollectionState, options = {}) => {
  const verdict = judge({ ...NOTHING, ...facts }, state, SETTINGS, options)
  return verdict.action === 'remove' ? [] : verdict.reasons
}

test('a version goes that was unused for the window and that nothing keeps', () => {
  expect(judge(NOTHING, unused(), SETTINGS)).toEqual({ action: 'remove' })
})

test.each<[string, Partial<VersionFacts>, string]>([
  ['channel', { channels: ['stable'], isOnly: true }, 'the channel stable points at it'],
  ['channel', { channels: ['stable', 'testing'] }, 'the channels stable, testing point at it'],
  ['rollout', { rollouts: ['stable'] }, 'the rollout of stable leaves some peers on it'],
  ['only-release', { isOnly: true }, 'it is the only release of the appliance'],
  ['local-machine', { machines: ['desk'] }, 'the machine desk here is of it'],
  ['local-machine', { machines: ['a', 'b'] }, 'the machines a, b here are of it'],
  ['replicated', { isReplicated: true }, 'it is replicated here']
])('%s: kept, with --force too', (code, facts, words) => {
  for (const options of [{}, { force: true }]) {
    expect(reasonsOf(facts, unused(), options)).toEqual([{ code, words, mayForce: false }])
  }
})

test.each<[PollOutcome, string, number | undefined]>([
  [{ kind: 'none' }, 'nobody has been asked yet who uses it', undefined],
  [{ kind: 'failed' }, 'the last question who uses it failed', undefined],
  [{ kind: 'in-use', forMs: HOUR_MS }, 'in use; the last lease that is known runs for 1 h', HOUR_MS + 7 * DAY_MS],
  [
    { kind: 'forgotten', forMs: DAY_MS },
    'it was in use when last heard of; nobody knows whether that lease was given back, and it runs for 1 d',
    8 * DAY_MS
  ],
  [{ kind: 'no-majority', answered: 7, needed: 11 }, 'too few holders answered: 7, where 11 are needed', undefined],
  [
    { kind: 'young', tenureMs: DAY_MS, neededMs: 7 * DAY_MS },
    'a majority of its holders has watched it for 1 d only, where 7 d are needed',
    13 * DAY_MS
  ]
])('%j: kept until somebody knows better, unless forced', (last, words, leftMs) => {
  const state = unused({ last, unusedForMs: 0, polls: 0 })
  const reasons = reasonsOf({}, state)
  expect(reasons.map(reason => reason.words)).toEqual([words])
  expect(earliestMs({ reasons })).toBe(leftMs)
  expect(judge(NOTHING, state, SETTINGS, { force: true })).toEqual({ action: 'remove' })
})

test('it is told for how long a version was seen unused, and what is missing', () => {
  const reasons = reasonsOf({}, unused({ unusedForMs: 3 * HOUR_MS }))
  expect(reasons).toMatchObject([{ code: 'unused-too-short', words: 'seen unused for 3 h; 6 d 21 h are missing' }])
  expect(earliestMs({ reasons })).toBe(7 * DAY_MS - 3 * HOUR_MS)
})

test('what a channel points at lacks no grace', () => {
  const reasons = reasonsOf({ channels: ['stable'] }, unused({ supersededForMs: 0 }))
  expect(reasons.map(({ code }) => code)).toEqual(['channel'])
})

test('the grace counts from when no channel pointed at it any more', () => {
  const reasons = reasonsOf({}, unused({ supersededForMs: 2 * DAY_MS }))
  expect(reasons).toMatchObject([{ code: 'superseded-too-short', leftMs: 5 * DAY_MS }])
})

test('all reasons are told, and the latest counts', () => {
  const reasons = reasonsOf({ machines: ['desk'] }, unused({ unusedForMs: 0, supersededForMs: DAY_MS }))
  expect(reasons.map(({ code }) => code)).toEqual(['local-machine', 'unused-too-short', 'superseded-too-short'])
  expect(earliestMs({ reasons })).toBeUndefined()
})

test.each([
  [0, '0 s'],
  [500, 'less than 1 s'],
  [12_345, '12 s'],
  [HOUR_MS - 1, '59 min 59 s'],
  [HOUR_MS, '1 h'],
  [4 * DAY_MS + 21.9 * HOUR_MS, '4 d 21 h'],
  [400 * DAY_MS, '400 d']
])('%d ms are spelt %s', (ms, words) => {
  expect(spellDuration(ms)).toBe(words)
})
