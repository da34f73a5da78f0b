import { expect, test } from 'vitest'
import { historyPlot } from '../../../bin/plot.ts'
import { bar, releasesText, sparkline } from '../../../bin/releases-view.ts'
import type { ReleaseRow } from '../../../src/node/command-results.ts'

const NOW = Date.UTC(2026, 10, 21, 12)
const HOUR_MS = 3_600_000

const samples = (counts: (number | null)[], more: object = {}) =>
  counts.map((count, i) => ({
    at: new Date(NOW - (counts.length - 1 - i) * HOUR_MS).toISOString(),
    count,
    exact: true,
    ...more
  }))

const row = (version: string, more: Partial<ReleaseRow> = {}): ReleaseRow => ({
  appliance: '12D3KooWPublisherPublisherPublisher/grid',
  version,
  image: 'ab'.repeat(32),
  channels: [],
  rollout: {},
  published: new Date(NOW - 51 * HOUR_MS).toISOString(),
  expires: new Date(NOW + HOUR_MS).toISOString(),
  expired: false,
  sharers: { count: 0, exact: true },
  replicas: 3,
  complete: 2,
  history: [],
  collection: null,
  ...more
})

test('a row says who uses a version, how that went, who serves it, and what becomes of it', () => {
  const text = releasesText(
    [
      row('v3', {
        channels: ['stable', 'testing'],
        rollout: { stable: 10 },
        sharers: { count: 1040000, exact: false, error: 0.03 },
        history: samples([0, 5, 10]),
        collection: { action: 'keep', why: ['a reason', 'another'], unusedSeconds: 0, earliestSeconds: null }
      }),
      row('v2', {
        sharers: { count: null, exact: false },
        replicas: 1,
        complete: 1,
        collection: { action: 'keep', why: ['unused too short'], unusedSeconds: 0, earliestSeconds: 421_200 }
      }),
      row('v1', { collection: { action: 'remove', why: [], unusedSeconds: 9, earliestSeconds: 0 } })
    ],
    NOW
  )
  const [title, header, ...lines] = text.split('\n')
  expect(title).toBe('12D3KooWPubl…/grid')
  expect(header).toMatch(/^VERSION +CHANNELS +AGE +SHARERS +HISTORY +REPLICAS +COLLECTION$/)
  expect(lines[0]).toMatch(
    /^v3 +stable 10 %, testing +2 d 3 h +██████████ ~1,040,000 ±3 % +▁▅█ +2 full, 1 partial +stays: a reason; another$/
  )
  expect(lines[1]).toMatch(/^v2 +- +2 d 3 h +░{10} \? +1 full +in 4 d 21 h at the earliest: unused too short$/)
  expect(lines[2]).toMatch(/^v1 .* goes with the next `rowan gc`$/)
})

test('a record that has expired is said to have, above all that it lists', () => {
  const text = releasesText([row('v1', { expires: '2026-11-20T08:30:00.000Z', expired: true }), row('v0')], NOW)
  const [title, note, header] = text.split('\n')
  expect(title).toBe('12D3KooWPubl…/grid')
  expect(note).toMatch(/^the record of it expired on 2026-11-20 08:30 UTC: .*--allow-expired$/)
  expect(header).toMatch(/^VERSION/)
  expect(releasesText([row('v1')], NOW)).not.toContain('expired')
})

test('of another publisher’s appliance nothing is said that only that one knows', () => {
  expect(releasesText([row('v1')], NOW)).not.toMatch(/HISTORY|COLLECTION/)
  expect(releasesText([], NOW)).toBe('no releases')
})

test.each([
  [0, '░░░░░░░░░░'],
  [0.001, '█░░░░░░░░░'],
  [0.5, '█████░░░░░'],
  [1, '██████████']
])('a part of %d is the bar %s', (part, drawn) => {
  expect(bar(part)).toBe(drawn)
})

test('a sparkline has a cell for each sample, or the greatest of several, and dots where nobody could say', () => {
  expect(sparkline([])).toBe('')
  expect(sparkline(samples([7]))).toBe('█')
  expect(sparkline(samples([0, null, 4]))).toBe('▁·█')
  expect(sparkline(samples([null, null]))).toBe('··')
  const long = sparkline(samples(Array.from({ length: 500 }, (_, i) => i)))
  expect(long).toHaveLength(16)
  expect(long[0]).toBe('▁')
  expect(long.at(-1)).toBe('█')
})

test('the plot has a line for each version, breaks where nobody could say, a band for estimates, and names', () => {
  const svg = historyPlot([
    row('v2', { history: samples([1, 2, null, 4, 5]) }),
    row('v1', { history: samples([900, 1000, 1100], { exact: false, error: 0.03 }) }),
    row('<&>', { history: samples([3]) }),
    row('never', {})
  ])
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" /)
  expect(svg.match(/<polyline /g)).toHaveLength(3)
  expect(svg.match(/<polygon /g)).toHaveLength(1)
  expect(svg).toContain('v2: 5')
  expect(svg).toContain('v1: ~1,100')
  expect(svg).toContain('&lt;&amp;&gt;: 3')
  expect(svg).not.toContain('never')
  expect(svg).toContain('prefers-color-scheme: dark')
  expect(svg).not.toMatch(/NaN|undefined|href|script/)
})

test('without samples the plot says so', () => {
  for (const rows of [[], [row('v1')], [row('v1', { history: samples([null]) })]]) {
    expect(historyPlot(rows)).toContain('No samples yet')
  }
})
