import { describe, expect, test } from 'vitest'
import { type CircuitStream, Circuits, MAX_WAITING_BYTES } from '../../../src/node/circuits.ts'
import { ManualClock } from '../release/support/clock.ts'

const KIB = 1024

/** One end of a circuit: what it sends is what comes in here; what it is sent stays until it reads. */
class TestStream extends EventTarget {
  status = 'open'
  readStatus = 'readable'
  writeBufferLength = 0
  takes = true

  come(bytes: number) {
    this.dispatchEvent(Object.assign(new Event('message'), { data: new Uint8Array(bytes) }))
  }

  send(data: { byteLength: number }) {
    if (!this.takes) this.writeBufferLength += data.byteLength
    return this.takes
  }

  drain() {
    this.writeBufferLength = 0
    this.takes = true
    this.dispatchEvent(new Event('drain'))
  }

  pause() {
    this.readStatus = 'paused'
  }

  resume() {
    this.readStatus = 'readable'
  }

  abort() {
    this.status = 'aborted'
    this.dispatchEvent(new Event('close'))
  }
}

function setUp(maxBytesPerSecond: number) {
  const clock = new ManualClock()
  const circuits = new Circuits({ clock }, { maxBytesPerSecond })
  const [hop, stop] = [new TestStream(), new TestStream()]
  const of = (stream: TestStream) => stream as unknown as CircuitStream
  circuits.serve(of(hop), () => circuits.opened(of(stop)))
  return { clock, circuits, hop, stop }
}

describe('a circuit', () => {
  test('takes nothing more from one side while too much waits for the other', () => {
    const { hop, stop } = setUp(Number.POSITIVE_INFINITY)
    stop.takes = false
    hop.come(MAX_WAITING_BYTES / 2)
    expect(hop.readStatus).toBe('readable')
    hop.come(MAX_WAITING_BYTES / 2 + 1)
    expect([hop.readStatus, stop.readStatus]).toEqual(['paused', 'readable'])
    // What was passed on and not taken waits as well.
    stop.send(new Uint8Array(MAX_WAITING_BYTES + 1))
    expect(hop.readStatus).toBe('paused')
    stop.drain()
    expect(hop.readStatus).toBe('readable')
  })

  test('waits, whichever way, until what has passed is within the rate of all', () => {
    const { clock, circuits, hop, stop } = setUp(100 * KIB)
    hop.come(64 * KIB)
    stop.send(new Uint8Array(64 * KIB))
    stop.come(200 * KIB)
    hop.send(new Uint8Array(200 * KIB))
    expect([hop.readStatus, stop.readStatus]).toEqual(['paused', 'paused'])
    clock.advance(1_900)
    expect(hop.readStatus).toBe('paused')
    clock.advance(200)
    expect([hop.readStatus, stop.readStatus]).toEqual(['readable', 'readable'])
    expect(circuits.bytes).toBe(264 * KIB)
  })

  test('is cut with all others', () => {
    const { circuits, hop, stop } = setUp(100 * KIB)
    circuits.cut()
    expect([hop.status, stop.status]).toEqual(['aborted', 'aborted'])
  })

  test('that has ended is left alone', () => {
    const { clock, hop, stop } = setUp(100 * KIB)
    hop.come(200 * KIB)
    for (const stream of [hop, stop]) {
      stream.status = 'closed'
      stream.dispatchEvent(new Event('close'))
    }
    clock.advance(60_000)
    expect(hop.readStatus).toBe('paused')
    expect(clock.waiting).toBe(0)
  })
})
