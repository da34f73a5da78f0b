import { describe, expect, test } from 'vitest'
import { BufferPool, SMALL_BUFFER_BYTES } from '../../../src/nbd/buffer-pool.ts'
import { newCounter, SharedMemory, takeOff } from '../../../src/nbd/shared-memory.ts'

const MIB = 1024 * 1024
const pool = (maxBufferBytes = 4 * MIB, maxIdleBufferBytes = MIB, memory?: SharedMemory) =>
  new BufferPool(
    { maxBufferBytes, maxAllBufferBytes: 6 * MIB, maxIdleBufferBytes, guaranteedBufferBytes: MIB / 2 },
    memory
  )

const microtasks = () => new Promise<void>(resolve => setImmediate(resolve))

describe('BufferPool', () => {
  test('lends a buffer of at least the size asked for, up to a payload of 32 MiB with its header', () => {
    const buffers = pool()
    for (const size of [1, SMALL_BUFFER_BYTES, SMALL_BUFFER_BYTES + 1, MIB + 16, 8 * MIB + 16, 32 * MIB + 16]) {
      expect(buffers.take(size).length).toBeGreaterThanOrEqual(size)
    }
  })

  test('lends again what was given back last', () => {
    const buffers = pool()
    const [one, two] = [buffers.take(100), buffers.take(100)]
    buffers.give(one)
    buffers.give(two)
    expect(buffers.take(100)).toBe(two)
    expect(buffers.take(100)).toBe(one)
  })

  test('keeps no more idle memory than its limit', () => {
    const buffers = pool(64 * MIB, MIB)
    const lent = Array.from({ length: 20 }, () => buffers.take(100))
    for (const buffer of lent) buffers.give(buffer)
    expect(buffers.lentBytes).toBe(0)
    expect(buffers.idleBytes).toBe(MIB)
    buffers.give(buffers.take(32 * MIB))
    expect(buffers.idleBytes).toBe(MIB)
  })

  test('at its limit allows each connection what it is guaranteed, and no more', () => {
    const buffers = pool(MIB)
    expect(buffers.allows(MIB, MIB)).toBe(true)
    for (let count = 0; count < 4; count++) buffers.take(SMALL_BUFFER_BYTES)
    expect(buffers.allows(4096, 0)).toBe(true)
    expect(buffers.allows(4096, MIB / 2 - 4096)).toBe(true)
    expect(buffers.allows(4096, MIB / 2)).toBe(false)
    expect(buffers.allows(MIB, 0)).toBe(false)
  })

  test('shares a bound with the pools of other threads, which keeps none of them from what it is guaranteed', () => {
    const all = newCounter()
    const counters = [0, 1, 2].map(() => ({ all, own: newCounter() }))
    const [one, two, three] = counters.map(each => pool(4 * MIB, MIB, new SharedMemory(each)))
    for (let count = 0; count < 12; count++) {
      expect(one!.allows(SMALL_BUFFER_BYTES, MIB)).toBe(true)
      one!.take(SMALL_BUFFER_BYTES)
    }
    const lent = Array.from({ length: 10 }, () => two!.take(SMALL_BUFFER_BYTES))
    expect(two!.allows(2 * SMALL_BUFFER_BYTES, MIB)).toBe(true)
    expect(two!.allows(MIB, MIB)).toBe(false)
    expect(two!.allows(SMALL_BUFFER_BYTES, 0)).toBe(true)
    // Nothing is lent there, so nobody could give anything back to who waits.
    expect(three!.allows(4 * MIB, MIB)).toBe(true)
    three!.take(SMALL_BUFFER_BYTES)
    expect(three!.allows(MIB, MIB)).toBe(false)
    // Above half of the bound nothing is kept.
    for (const buffer of lent) two!.give(buffer)
    expect(two!.idleBytes).toBeLessThanOrEqual(SMALL_BUFFER_BYTES)
    expect(three!.allows(MIB, MIB)).toBe(true)
    takeOff(counters[0]!)
    expect(new SharedMemory({ all, own: newCounter() }).allBytes).toBe(two!.idleBytes + SMALL_BUFFER_BYTES)
  })

  test('calls everybody who waits once, after something was given back', async () => {
    const buffers = pool()
    const called: string[] = []
    const one = () => called.push('one')
    const two = () => called.push('two')
    const three = () => called.push('three')
    const lent = buffers.take(1)
    for (const resume of [one, two, one, three]) buffers.wait(resume)
    buffers.stopWaiting(three)
    await microtasks()
    expect(called).toEqual([])
    buffers.give(lent)
    expect(called).toEqual([])
    await microtasks()
    expect(called).toEqual(['one', 'two'])
    buffers.give(buffers.take(1))
    await microtasks()
    expect(called).toEqual(['one', 'two'])
  })
})
