import { describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/node/system.ts'
import { BlockBuffers } from '../../../src/swarm/block-buffers.ts'
import { BlockStore } from '../../../src/swarm/block-store.ts'
import { recordingLog, until } from './support.ts'

/** A pool that stores when the test says so. */
function slowPool() {
  const calls: { entries: { hash: Uint8Array }[]; finish: (error?: Error) => void }[] = []
  let slot = 0
  return {
    calls,
    putMany: (entries: { hash: Uint8Array }[]) =>
      new Promise<number[]>((resolve, reject) => {
        calls.push({ entries, finish: error => (error ? reject(error) : resolve(entries.map(() => slot++))) })
      })
  }
}

function make(pool: { putMany(entries: { hash: Uint8Array; block: Uint8Array }[]): Promise<number[]> }) {
  const { log, lines } = recordingLog()
  const buffers = new BlockBuffers()
  const store = new BlockStore({ pool, buffers, log, clock: systemClock })
  const stored: number[] = []
  const failed: string[] = []
  const add = (n: number, urgent = true) =>
    store.add({
      hash: new Uint8Array([n]),
      block: new Uint8Array(65_536),
      urgent,
      stored: () => stored.push(n),
      failed: error => failed.push(error.code)
    })
  return { store, add, stored, failed, lines }
}

const tick = () => new Promise(resolve => setImmediate(resolve))

describe('block store', () => {
  test('what comes while a batch is stored makes up the next batch', async () => {
    const pool = slowPool()
    const { add, stored } = make(pool)
    for (let n = 0; n < 10; n++) add(n)
    await tick()
    expect(pool.calls.map(({ entries }) => entries.length)).toEqual([10])
    for (let n = 10; n < 20; n++) add(n)
    pool.calls[0]!.finish()
    await tick()
    expect(pool.calls.map(({ entries }) => entries.length)).toEqual([10, 10])
    pool.calls[1]!.finish()
    await tick()
    expect(stored).toEqual(Array.from({ length: 20 }, (_, n) => n))
  })

  test('what is not urgent waits for company, but not for long, and not when a guest waits', async () => {
    const pool = slowPool()
    const { add } = make(pool)
    add(1, false)
    await tick()
    expect(pool.calls).toHaveLength(0)
    for (let n = 2; n <= 16; n++) add(n, false)
    await tick()
    expect(pool.calls.map(({ entries }) => entries.length)).toEqual([16])
    add(17, false)
    pool.calls[0]!.finish()
    await until(() => pool.calls.length === 2, 'the lone block to be stored')
    add(18, false)
    pool.calls[1]!.finish()
    await tick()
    add(19, true)
    await tick()
    expect(pool.calls.map(({ entries }) => entries.length)).toEqual([16, 1, 2])
  })

  test('holds back when too much is on its way, and goes on when there is room', async () => {
    const pool = slowPool()
    const { add, store } = make(pool)
    let full: Promise<void> | undefined
    let count = 0
    while (full === undefined) full = add(count++)
    expect(store.pendingBytes).toBeGreaterThan(16 * 1024 * 1024)
    expect(count).toBe(257)
    let isFree = false
    void full.then(() => {
      isFree = true
    })
    await tick()
    expect(isFree).toBe(false)
    pool.calls[0]!.finish()
    await tick()
    expect(isFree).toBe(true)
  })

  test('keeps as many of a refused batch as fit, and tells the others', async () => {
    let room = 5
    const pool = {
      async putMany(entries: unknown[]) {
        if (entries.length > room) throw new RowanError('POOL_FULL', 'full')
        room -= entries.length
        return entries.map(() => 0)
      }
    }
    const { add, stored, failed, lines } = make(pool)
    for (let n = 0; n < 10; n++) add(n)
    await tick()
    expect(stored).toEqual([0, 1, 2, 3, 4])
    expect(failed).toEqual(['POOL_FULL', 'POOL_FULL', 'POOL_FULL', 'POOL_FULL', 'POOL_FULL'])
    expect(lines).toHaveLength(1)
  })
})
