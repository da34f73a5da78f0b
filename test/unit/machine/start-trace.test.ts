import { describe, expect, test } from 'vitest'
import { startTrace } from '../../../src/machine/start-trace.ts'
import { MAX_MARKS, Timeline } from '../../../src/timeline.ts'

describe('startTrace', () => {
  const marks = [
    { what: 'root of the index', atMs: 1_700, peer: 'a' },
    { what: 'dialling', atMs: 900, peer: 'b' },
    { what: 'attach', atMs: 1_000 },
    { what: 'greeted', atMs: 1_500, peer: 'a', rttMs: 70 },
    { what: 'greeted', atMs: 1_550, peer: 'b', rttMs: 100 },
    { what: 'first block', atMs: 1_770, peer: 'a' }
  ]

  test('counts from the attach, in milliseconds and round trips to the nearest replica', () => {
    const trace = startTrace(marks)
    expect(trace.rttMs).toBe(70)
    expect(trace.marks.map(({ what, atMs, roundTrips }) => [what, atMs, roundTrips])).toEqual([
      ['attach', 0, 0],
      ['greeted', 500, 7.1],
      ['greeted', 550, 7.9],
      ['root of the index', 700, 10],
      ['first block', 770, 11]
    ])
    expect(trace.firstBlock).toEqual({ ms: 770, roundTrips: 11 })
  })

  test('gives no round trips on a network whose own are too short to say anything', () => {
    const near = startTrace(marks.map(mark => ('rttMs' in mark ? { ...mark, rttMs: 2 } : mark)))
    expect(near.firstBlock).toEqual({ ms: 770, roundTrips: null })
  })

  test('is empty without an attach, and has no first block before it came', () => {
    expect(startTrace(marks.filter(({ what }) => what !== 'attach')).marks).toEqual([])
    expect(startTrace(marks.slice(0, -1)).firstBlock).toBeNull()
  })
})

describe('Timeline', () => {
  test('is bounded, and begins anew', () => {
    const clock = { ms: 5, monotonicMs: () => clock.ms }
    const line = new Timeline(clock)
    line.markOnce('first')
    clock.ms = 6
    line.markOnce('first')
    for (let index = 0; index < 2 * MAX_MARKS; index++) line.mark('more')
    expect(line.marks).toHaveLength(MAX_MARKS)
    expect(line.marks.slice(0, 2)).toEqual([
      { what: 'first', atMs: 5 },
      { what: 'more', atMs: 6 }
    ])
    line.restart()
    line.markOnce('first')
    expect(line.marks).toEqual([{ what: 'first', atMs: 6 }])
  })
})
