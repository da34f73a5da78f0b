import { describe, expect, test } from 'vitest'
import { traceText } from '../../../bin/commands/status.ts'
import { showWatch, watchText } from '../../../bin/status-watch.ts'
import type { MachineStatus, StatusResult } from '../../../src/node/command-results.ts'

const machine: MachineStatus = {
  name: 'grid',
  appliance: 'p/grid',
  version: 'v1',
  image: 'i',
  size: 1,
  attached: true,
  readOnly: false,
  clients: 1,
  layers: 1,
  local: { blocks: 300, of: 1000 },
  fetched: { blocks: 300, bytes: 1, wireBytes: 1 },
  waited: { seconds: 2.5, longestMs: 90, reads: 4 },
  waiting: { demand: 2, readAhead: 0, profile: 40, fill: 0 },
  boot: {
    profile: { from: 'release', voices: 1, of: 400, touched: 100, passed: 300, unused: 200 },
    readAhead: { touched: 0, untouched: 0 }
  }
} as unknown as MachineStatus

function statusOf(wireBytes: number, servedBytes: number): StatusResult {
  const fetched = { blocks: 1, bytes: 1, wireBytes }
  const peer = { peer: '12D3KooWabcdefgh', rttMs: 68.4, rateBytesPerSecond: null, servedBytes, outstanding: 7, fetched }
  return {
    peers: 3,
    exchanging: [peer],
    transfers: [{ image: 'i', ...fetched }],
    machines: [machine, { ...machine, name: 'off', attached: false }]
  } as unknown as StatusResult
}

describe('rowan status --watch', () => {
  test('has no rates at first, then those between two answers', () => {
    expect(watchText(statusOf(1_000_000, 0), undefined, 0)).toContain('down -   up -   3 connected')
    const text = watchText(statusOf(11_000_000, 4_000_000), statusOf(1_000_000, 0), 2)
    expect(text).toMatch(/down 5\S* MB\/s {3}up 2\S* MB\/s/)
    expect(text).toMatch(/…abcdefgh +5\S* MB\/s +2\S* MB\/s +68 ms +7/)
  })

  test('tells what is on its way and how far the boot is, of attached machines', () => {
    const text = watchText(statusOf(1, 1), undefined, 0)
    expect(text).toContain('grid: 300 of 1000 blocks here, waited 2.5s so far')
    expect(text).toContain('on the way: 2 the guest waits for, 40 for the boot')
    expect(text).toContain(
      `boot ${'█'.repeat(6)}${'▒'.repeat(12)}${'░'.repeat(6)} 100 of 400 blocks, 300 fetched ahead`
    )
    expect(text).toContain("along the release's profile")
    expect(text).not.toContain('off:')
  })

  test('stays where it is on a terminal, and is a paragraph elsewhere', () => {
    const written: string[] = []
    const write = (text: string) => written.push(text)
    showWatch('a', { isTTY: true, write })
    showWatch('a', { write })
    expect(written).toEqual(['\x1b[H\x1b[2Ja\n', 'a\n\n'])
  })
})

describe('rowan status --trace', () => {
  const marks = [
    { what: 'attach', atMs: 0, roundTrips: 0 },
    { what: 'first block', atMs: 544.2, roundTrips: 8, peer: '12D3KooWabcdefgh' }
  ]

  test('tells milliseconds and round trips, and holds them against the budget', () => {
    const trace = { machine: 'm', rttMs: 68, marks, firstBlock: { ms: 544.2, roundTrips: 8 }, budgetRoundTrips: 9 }
    const text = traceText(trace)
    expect(text).toMatch(/544 +8\.0 +first block +…abcdefgh/)
    expect(text).toContain('first block after 544 ms: 8.0 round trips of 68 ms; the budget is 9')
  })

  test('says so where nothing was attached, or nothing had to be fetched', () => {
    const trace = { machine: 'm', rttMs: null, marks: [], firstBlock: null, budgetRoundTrips: 9 }
    expect(traceText(trace)).toBe('m was not attached since the daemon started')
    expect(traceText({ ...trace, marks: marks.slice(0, 1) })).toContain('no block had to be fetched yet')
  })
})
