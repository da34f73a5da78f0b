import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Credit, CreditGrants } from '../../../src/swarm/credit.ts'
import type { Rank } from '../../../src/swarm/messages.ts'
import { SharedLine } from './shared-line.ts'

const DEMAND: Rank = 0
const FILL: Rank = 3
const BLOCK = 65_536

/** Texts for a while, then what is packed already, and so on, as files lie in an image. */
const patchy = (block: number) => (Math.floor(block / 300) % 2 === 0 ? 6_000 : BLOCK)
const mixed = (block: number) => 2_000 + ((block * 7919) % 63_000)

/** A guest that reads a block now and then, while a fill always wants more. @returns what it waits beyond an idle line */
function delaysBesideFill(line: SharedLine, rttMs: number, bytesPerMs: number): number[] {
  let block = 0
  const fill = () => line.want(block++, FILL, fill)
  for (let n = 0; n < 1024; n++) fill()
  line.run(3000)
  const delays: number[] = []
  for (let n = 0; n < 100; n++) {
    const startMs = line.nowMs
    line.want(1e6 + n, DEMAND, () => delays.push(line.nowMs - startMs - rttMs - BLOCK / bytesPerMs))
    line.run(230)
  }
  return delays.sort((a, b) => a - b)
}

describe('credit', () => {
  for (const [rttMs, mbit, replicas] of [
    [68, 50, 1],
    [68, 50, 2],
    [23, 100, 2]
  ] as const) {
    for (const [blocks, sizeOf] of [
      ['of all sizes', mixed],
      ['that are suddenly ten times as large', patchy]
    ] as const) {
      test(`${replicas} on a line of ${rttMs} ms and ${mbit} Mbit/s use it all for blocks ${blocks}, and a guest hardly waits`, () => {
        const bytesPerMs = mbit * 125
        const line = new SharedLine({ rttMs, bytesPerMs, replicas, sizeOf })
        const delays = delaysBesideFill(line, rttMs, bytesPerMs)
        expect(delays.length).toBe(100)
        expect(delays[50]).toBeLessThan(35)
        expect(delays[95]).toBeLessThan(70)
        expect(line.carriedBytes / (line.nowMs * bytesPerMs)).toBeGreaterThan(0.93)
      })
    }
  }

  test('more is never under way than the window, whatever the blocks cost, unless a guest waits for it', () => {
    const step = fc.record({ grow: fc.integer({ min: -4, max: 4 }), bytes: fc.integer({ min: 1, max: BLOCK + 12 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), fc.integer({ min: 1, max: 30 }), (steps, pipe) => {
        const [grants, credit] = [new CreditGrants(), new Credit()]
        const underWay: number[] = []
        let windowBytes = 8 * BLOCK
        let largestBytes = windowBytes
        let sentMs = 0
        for (const { grow, bytes } of steps) {
          windowBytes = Math.max(2 * BLOCK, windowBytes + grow * 10_000)
          largestBytes = Math.max(largestBytes, windowBytes)
          const due = grants.due(windowBytes)
          if (due > 0) {
            grants.granted(due, sentMs++)
            credit.grant(due)
          }
          if (credit.covers(bytes)) {
            credit.sent(bytes)
            underWay.push(bytes)
          } else {
            // What is not sent now is sent once what is under way has come.
            expect(underWay.length).toBeGreaterThan(0)
          }
          expect(underWay.reduce((sum, each) => sum + each, 0)).toBeLessThanOrEqual(largestBytes)
          const cannotSend = !credit.covers(BLOCK + 12)
          if (underWay.length > 0 && (cannotSend || underWay.length > pipe)) {
            expect(grants.received(underWay.shift()!)).toBeLessThan(sentMs)
          }
        }
      })
    )
  })

  test('tells when the credit for an answer went out', () => {
    const grants = new CreditGrants()
    grants.granted(grants.due(100), 1)
    expect(grants.received(60)).toBe(1)
    grants.granted(grants.due(100), 2)
    expect(grants.received(40)).toBe(1)
    expect(grants.received(10)).toBe(2)
  })

  test('is granted in steps that are worth a message', () => {
    const grants = new CreditGrants()
    grants.granted(grants.due(800), 0)
    grants.received(99)
    expect(grants.due(800)).toBe(0)
    grants.received(1)
    expect(grants.due(800)).toBe(100)
  })

  test('of a window that shrinks runs out before there is more', () => {
    const grants = new CreditGrants()
    grants.granted(grants.due(800), 0)
    grants.received(300)
    expect(grants.due(400)).toBe(0)
    grants.received(200)
    expect(grants.due(400)).toBe(100)
  })

  test('is unlimited for a requester that never grants any, and bounded for one that grants too much', () => {
    const credit = new Credit()
    credit.sent(BLOCK)
    expect(credit.covers(BLOCK)).toBe(true)
    for (let n = 0; n < 100; n++) credit.grant(2 ** 32 - 1)
    expect(credit.covers(2 ** 26 + 1)).toBe(false)
  })
})
