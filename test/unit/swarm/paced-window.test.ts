import { describe, expect, test } from 'vitest'
import { PeerEstimate, type SentMark } from '../../../src/swarm/peer-estimate.ts'

const BLOCK = 65_536
/** What a window may be, and still be called short on its line: the target, and a block that is on its way. */
const MS = 1

interface Flow {
  estimate: PeerEstimate
  inFlight: { mark: SentMark; atMs: number }[]
  answered: number
}

/** A line that all flows share: what comes down waits for its turn, and takes `rttMs` on top. */
class SharedLine {
  readonly flows: Flow[] = []
  readonly #rttMs: number
  readonly #bytesPerMs: number
  #freeMs = 0
  nowMs = 0

  constructor(rttMs: number, bytesPerMs: number) {
    this.#rttMs = rttMs
    this.#bytesPerMs = bytesPerMs
  }

  join(): Flow {
    const flow: Flow = { estimate: new PeerEstimate(), inFlight: [], answered: 0 }
    flow.estimate.addRoundTrip(this.#rttMs + this.queueMs, this.nowMs)
    this.flows.push(flow)
    return flow
  }

  /** How long what is asked for now stands in the queue, beyond the round trip. */
  get queueMs(): number {
    return Math.max(0, this.#freeMs - (this.nowMs + this.#rttMs))
  }

  /** Every flow asks for as much as its window allows. @returns the queue at each millisecond */
  run(forMs: number): number[] {
    const queues: number[] = []
    for (const endMs = this.nowMs + forMs; this.nowMs < endMs; this.nowMs += MS) {
      for (const { estimate, inFlight } of this.flows) {
        while (inFlight.length > 0 && inFlight[0]!.atMs <= this.nowMs) {
          estimate.answered(inFlight.shift()!.mark, BLOCK, this.nowMs)
          this.#count(inFlight)
        }
        while ((inFlight.length + 1) * BLOCK <= estimate.paced.bytes) {
          this.#freeMs = Math.max(this.#freeMs, this.nowMs + this.#rttMs) + BLOCK / this.#bytesPerMs
          inFlight.push({ mark: estimate.sent(this.nowMs, inFlight.length * BLOCK), atMs: this.#freeMs })
        }
        estimate.paced.noteFull()
      }
      queues.push(this.queueMs)
    }
    return queues
  }

  #count(inFlight: Flow['inFlight']): void {
    for (const flow of this.flows) if (flow.inFlight === inFlight) flow.answered++
  }
}

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

describe('a paced window', () => {
  for (const [rttMs, mbit] of [
    [68, 50],
    [150, 20],
    [23, 100]
  ] as const) {
    const bytesPerMs = (mbit * 1e6) / 8 / 1000
    test(`keeps a line of ${rttMs} ms and ${mbit} Mbit/s busy, and its queue near the target`, () => {
      const line = new SharedLine(rttMs, bytesPerMs)
      const flow = line.join()
      line.run(3000)
      const before = flow.answered
      const queues = line.run(10_000)
      expect(((flow.answered - before) * BLOCK) / (10_000 * bytesPerMs)).toBeGreaterThan(0.9)
      // A block that is being carried stands in the queue as well, and one more was let in before that showed.
      expect(mean(queues)).toBeLessThan(25 + (2 * BLOCK) / bytesPerMs)
    })
  }

  test('overshoots for a moment only when it starts', () => {
    const line = new SharedLine(68, 6250)
    line.join()
    const queues = line.run(2000)
    expect(queues.filter(ms => ms > 100).length).toBeLessThan(300)
  })

  test('two on one line keep one short queue between them, and neither starves', () => {
    const line = new SharedLine(68, 6250)
    const first = line.join()
    line.run(3000)
    const second = line.join()
    line.run(10_000)
    const before = [first.answered, second.answered]
    const queues = line.run(20_000)
    expect(mean(queues)).toBeLessThan(60)
    const shares = [first.answered - before[0]!, second.answered - before[1]!]
    expect(Math.min(...shares) / Math.max(...shares)).toBeGreaterThan(0.2)
  })

  test('gives way to others that fill the queue, and takes the line again when they are gone', () => {
    const line = new SharedLine(68, 6250)
    const flow = line.join()
    line.run(3000)
    const busy = flow.estimate.paced.bytes
    for (let n = 0; n < 40; n++) {
      const mark = flow.estimate.sent(line.nowMs + n * 70, BLOCK)
      flow.estimate.answered(mark, BLOCK, line.nowMs + n * 70 + 68 + 10 + 200)
    }
    expect(flow.estimate.paced.bytes).toBeLessThan(0.7 * busy)
    line.run(6000)
    expect(flow.estimate.paced.bytes).toBeGreaterThan(0.9 * 68 * 6250)
  })

  test('does not grow while it is not used up', () => {
    const estimate = new PeerEstimate()
    estimate.addRoundTrip(20, 0)
    const before = estimate.paced.bytes
    for (let n = 0; n < 100; n++) estimate.answered(estimate.sent(n * 50, 0), BLOCK, n * 50 + 22)
    expect(estimate.paced.bytes).toBe(before)
  })
})
