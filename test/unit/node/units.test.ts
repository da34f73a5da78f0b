import { expect, test } from 'vitest'
import { formatDuration, formatSize, parseDuration, parseRate, parseSize } from '../../../src/node/units.ts'

test.each([
  ['30m', 1_800_000],
  ['7d', 604_800_000],
  ['1h30m', 5_400_000],
  ['2w', 1_209_600_000],
  ['1.5s', 1500],
  ['250ms', 250],
  ['1m500ms', 60_500]
])('the duration %s is %i ms', (text, ms) => {
  expect(parseDuration(text)).toBe(ms)
})

test.each(['', '30', 'm', '30 m', '-5m', '0s', '1m1h', '1h1h', '5x', '1e3s', '30m ', '99999999999999999d'])(
  'the duration %j is refused with an example',
  text => {
    expect(() => parseDuration(text)).toThrow(/is not a duration; write it like/)
  }
)

test.each([
  ['50GB', 50e9],
  ['64GiB', 64 * 1024 ** 3],
  ['1.5 MB', 1_500_000],
  ['512KiB', 524_288],
  ['1kB', 1000],
  ['unlimited', Number.POSITIVE_INFINITY]
])('the size %s', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes)
})

test.each(['50', '50gb', '50Gb', '0GB', '-1GB', '50GB/s', 'constructor', '1 constructor', '0.1B', 'Infinity'])(
  'the size %j is refused',
  text => {
    expect(() => parseSize(text)).toThrow(/is not a size/)
  }
)

test.each([
  ['10Mbit', 1_250_000],
  ['500kbit', 62_500],
  ['1Gbit', 125_000_000],
  ['2MB/s', 2_000_000],
  ['unlimited', Number.POSITIVE_INFINITY]
])('the rate %s in bytes a second', (text, bytes) => {
  expect(parseRate(text)).toBe(bytes)
})

test.each(['10', '10MB', '10mbit', '7bit/s', '1bit'])('the rate %j is refused', text => {
  expect(() => parseRate(text)).toThrow(/is not a rate/)
})

test('durations and sizes for people', () => {
  expect([0, 350, 2400, 59_999, 90_000, 3_600_000, 5_400_000, 8 * 86_400_000].map(formatDuration)).toEqual([
    '0ms',
    '350ms',
    '2.4s',
    '60s',
    '1m 30s',
    '1h',
    '1h 30m',
    '1w 1d'
  ])
  expect([0, 999, 1000, 65_536, 643e6, 999.9e6, 1.5e9, Number.POSITIVE_INFINITY].map(formatSize)).toEqual([
    '0 B',
    '999 B',
    '1 kB',
    '65.5 kB',
    '643 MB',
    '1 GB',
    '1.5 GB',
    'unlimited'
  ])
})
