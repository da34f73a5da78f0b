import { expect, test } from 'vitest'
import { chooseRelease } from '../../../src/image/rollout.ts'
import { testLatest, testPublisher, testRelease } from './records.ts'
import { withCode } from './with-code.ts'

const latest = testLatest(await testPublisher(1))
const peers = Array.from({ length: 2000 }, (_, index) => `peer${index}`)

/** The peers that get v2 when stable is rolled out to so many percent. */
function reached(rolloutPercent: number, version = 'v2'): Set<string> {
  const channels = [{ name: 'stable', version, rolloutPercent, previous: 'v1' }]
  const releases = [testRelease('v1'), testRelease(version)]
  return new Set(peers.filter(who => chooseRelease({ ...latest, channels, releases }, {}, who).version === version))
}

test('a version is what was asked for, whatever the channels say', () => {
  for (const version of ['v1', 'v2']) expect(chooseRelease(latest, { version }, 'me').version).toBe(version)
})

test('a channel without a previous version gives its version to everybody', () => {
  expect(chooseRelease(latest, { channel: 'testing' }, 'me').version).toBe('v2')
  const channels = [{ name: 'stable', version: 'v2', rolloutPercent: 1 }]
  for (const who of peers) expect(chooseRelease({ ...latest, channels }, {}, who).version).toBe('v2')
})

test('a rollout reaches about its share of the peers', () => {
  expect(reached(100).size).toBe(peers.length)
  // Three standard deviations of a binomial distribution.
  for (const percent of [1, 10, 30, 50, 99]) {
    const share = percent / 100
    const tolerance = 3 * Math.sqrt(peers.length * share * (1 - share))
    expect(Math.abs(reached(percent).size - peers.length * share)).toBeLessThan(tolerance)
  }
})

test('a rollout that grows takes nobody back', () => {
  let before = reached(1)
  for (const percent of [5, 25, 60, 100]) {
    const now = reached(percent)
    for (const who of before) expect(now.has(who)).toBe(true)
    before = now
  }
})

test('not always the same peers go first', () => {
  const both = [...reached(20, 'v2')].filter(who => reached(20, 'v3').has(who))
  expect(both.length).toBeLessThan(0.1 * peers.length)
})

test('the draw does not change between calls or programs', () => {
  const answers = peers.slice(0, 12).map(who => chooseRelease(latest, { channel: 'stable' }, who).version)
  expect(answers.join(' ')).toMatchInlineSnapshot(`"v2 v1 v1 v1 v1 v1 v1 v1 v1 v1 v2 v1"`)
})

test('says which versions and channels there are', () => {
  expect(() => chooseRelease(latest, { version: 'v3' }, 'me')).toThrow(withCode('VERSION_UNKNOWN'))
  expect(() => chooseRelease(latest, { version: 'v3' }, 'me')).toThrow(/v1, v2/)
  expect(() => chooseRelease(latest, { channel: 'beta' }, 'me')).toThrow(withCode('VERSION_UNKNOWN'))
  expect(() => chooseRelease(latest, { channel: 'beta' }, 'me')).toThrow(/stable, testing/)
})
