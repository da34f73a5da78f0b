import { describe, expect, test } from 'vitest'
import { BufferPool } from '../../../src/nbd/buffer-pool.ts'
import { newCounter, SharedMemory } from '../../../src/nbd/shared-memory.ts'
import { StallWatch, type Watched } from '../../../src/nbd/stall-watch.ts'
import { collectingLog, type LogLine, ManualClock } from '../../tools/nbd-fixture.ts'

const STALL_MS = 1000

class Client implements Watched {
  progress = 0
  holdsBuffers = true
  isDestroyed = false
  destroy(): void {
    this.isDestroyed = true
  }
}

function makeWatch() {
  const clock = new ManualClock()
  const log: LogLine[] = []
  const buffers = new BufferPool({
    maxBufferBytes: 1,
    maxAllBufferBytes: 2 ** 40,
    maxIdleBufferBytes: 0,
    guaranteedBufferBytes: 0
  })
  const connections = new Set<Client>()
  const watch = new StallWatch({ clock, log: collectingLog(log), buffers, connections }, { stallTimeoutMs: STALL_MS })
  const add = () => {
    const client = new Client()
    connections.add(client)
    return client
  }
  return { clock, log, buffers, watch, add }
}

const resume = () => undefined

describe('StallWatch', () => {
  test('leaves everybody alone as long as nobody waits', () => {
    const { clock, add } = makeWatch()
    const stalled = add()
    expect(clock.pending).toBe(0)
    clock.advance(100 * STALL_MS)
    expect(stalled.isDestroyed).toBe(false)
  })

  test('ends who holds buffers and made no progress while somebody waited the whole time', () => {
    const { clock, buffers, add, log } = makeWatch()
    const [stalled, busy, idle, slowDisk] = [add(), add(), add(), add()]
    idle.holdsBuffers = false
    slowDisk.holdsBuffers = false
    buffers.wait(resume)
    clock.advance(STALL_MS - 1)
    busy.progress += 1
    expect(stalled.isDestroyed).toBe(false)
    clock.advance(1)
    expect([stalled, busy, idle, slowDisk].map(client => client.isDestroyed)).toEqual([true, false, false, false])
    expect(log.map(line => line.values.code)).toEqual(['LIMIT_EXCEEDED'])
  })

  test('looks again as long as somebody waits', () => {
    const { clock, buffers, add } = makeWatch()
    const client = add()
    const waitOn = () => buffers.wait(waitOn)
    waitOn()
    client.progress += 1
    clock.advance(STALL_MS)
    expect(client.isDestroyed).toBe(false)
    clock.advance(STALL_MS)
    expect(client.isDestroyed).toBe(true)
  })

  test('lets those who wait look again: what they wait for may have been given back by another thread', () => {
    const all = newCounter()
    const clock = new ManualClock()
    const settings = {
      maxBufferBytes: 2 ** 40,
      maxAllBufferBytes: 2 ** 20,
      maxIdleBufferBytes: 0,
      guaranteedBufferBytes: 0
    }
    const [ours, theirs] = [0, 1].map(() => new BufferPool(settings, new SharedMemory({ all, own: newCounter() })))
    new StallWatch({ clock, log: collectingLog([]), buffers: ours!, connections: [] }, { stallTimeoutMs: STALL_MS })
    // A read that waits for the network, for as long as it takes.
    ours!.take(1)
    const lent = Array.from({ length: 3 }, () => theirs!.take(1))
    let isServed = false
    const ask = () => {
      if (ours!.allows(2 ** 19, 0)) isServed = true
      else ours!.wait(ask)
    }
    ask()
    clock.advance(STALL_MS)
    expect(isServed).toBe(false)
    for (const buffer of lent) theirs!.give(buffer)
    clock.advance(STALL_MS)
    expect(isServed).toBe(true)
    clock.advance(STALL_MS)
    expect(clock.pending).toBe(0)
  })

  test('forgets it when the wait was over in time', () => {
    const { clock, buffers, add } = makeWatch()
    const client = add()
    buffers.wait(resume)
    buffers.stopWaiting(resume)
    clock.advance(STALL_MS)
    expect(client.isDestroyed).toBe(false)
    expect(clock.pending).toBe(0)
  })

  test('does not end a client for what it held before somebody waited', () => {
    const { clock, buffers, add } = makeWatch()
    const client = add()
    clock.advance(STALL_MS)
    buffers.wait(resume)
    clock.advance(STALL_MS / 2)
    expect(client.isDestroyed).toBe(false)
  })

  test('stops with the server', () => {
    const { clock, buffers, watch, add } = makeWatch()
    const client = add()
    buffers.wait(resume)
    watch.stop()
    expect(clock.pending).toBe(0)
    clock.advance(STALL_MS)
    expect(client.isDestroyed).toBe(false)
  })
})
