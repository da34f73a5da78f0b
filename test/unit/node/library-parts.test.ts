import { describe, expect, test } from 'vitest'
import { overriding, StreamGate } from '../../../src/node/library-parts.ts'

class TestStream extends EventTarget {
  aborted: Error | undefined
  abort(error: Error) {
    this.aborted = error
    this.dispatchEvent(new Event('close'))
  }
}

describe('a gate for streams', () => {
  test('lets so many of one peer in, and others beside it', () => {
    const gate = new StreamGate({ atOnce: 3, perPeer: 2 })
    const streams = Array.from({ length: 5 }, () => new TestStream())
    const enter = (stream: TestStream, peer: string) => gate.enter(stream as never, peer)
    expect([enter(streams[0]!, 'a'), enter(streams[1]!, 'a'), enter(streams[2]!, 'a')]).toEqual([true, true, false])
    expect(streams[2]!.aborted).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect([enter(streams[3]!, 'b'), enter(streams[4]!, 'c')]).toEqual([true, false])
  })

  test('has room again when one closes, once', () => {
    const gate = new StreamGate({ atOnce: 1, perPeer: 1 })
    const [first, second, third] = [new TestStream(), new TestStream(), new TestStream()]
    expect(gate.enter(first as never, 'a')).toBe(true)
    first.dispatchEvent(new Event('close'))
    first.dispatchEvent(new Event('close'))
    expect(gate.open).toBe(0)
    expect(gate.enter(second as never, 'b')).toBe(true)
    expect(gate.enter(third as never, 'a')).toBe(false)
  })
})

test('an object with other members is otherwise the same one', () => {
  class Counter {
    #count = 0
    add() {
      this.#count++
      return this.name() + this.#count
    }
    name() {
      return 'own'
    }
  }
  const counter = new Counter()
  const changed = overriding(counter, { name: () => 'other' })
  expect([changed.name(), changed.add(), counter.add()]).toEqual(['other', 'own1', 'own2'])
})
