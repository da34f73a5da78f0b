import { describe, expect, test } from 'vitest'
import { overriding, StreamGate, type StreamLimits } from '../../../src/node/library-parts.ts'

class TestStream extends EventTarget {
  status = 'open'
  aborted: Error | undefined
  abort(error: Error) {
    this.aborted = error
    this.end()
  }
  end() {
    this.status = 'closed'
    this.dispatchEvent(new Event('close'))
  }
}

describe('a gate for streams', () => {
  function setUp(limits: Partial<StreamLimits>) {
    const gate = new StreamGate({ atOnce: 100, perPeer: 100, perNetwork: 100, ...limits })
    const enter = (peer: string, network = peer, stream = new TestStream()) => ({
      stream,
      isIn: gate.enter(stream as never, { peer, network })
    })
    return { gate, enter, isIn: (peer: string, network = peer) => enter(peer, network).isIn }
  }

  test('lets so many of one peer in, and others beside it', () => {
    const { enter, isIn } = setUp({ atOnce: 3, perPeer: 2 })
    expect([isIn('a'), isIn('a')]).toEqual([true, true])
    const third = enter('a')
    expect([third.isIn, third.stream.aborted]).toMatchObject([false, { code: 'LIMIT_EXCEEDED' }])
    expect([isIn('b'), isIn('c')]).toEqual([true, false])
  })

  test('lets so many of one network in, whatever their ids', () => {
    const { isIn } = setUp({ perNetwork: 2 })
    expect([isIn('a', 'n'), isIn('b', 'n'), isIn('c', 'n'), isIn('c', 'm')]).toEqual([true, true, false, true])
  })

  test('has room again when one closes, once', () => {
    const { gate, enter, isIn } = setUp({ atOnce: 1 })
    const { stream } = enter('a')
    stream.end()
    stream.end()
    expect(gate.open).toBe(0)
    expect([isIn('b'), isIn('a')]).toEqual([true, false])
  })

  test('gives no place to one that has ended before', () => {
    const { gate, enter, isIn } = setUp({ atOnce: 1 })
    const ended = new TestStream()
    ended.end()
    expect(enter('a', 'a', ended).isIn).toBe(false)
    expect(gate.open).toBe(0)
    expect(isIn('a')).toBe(true)
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
