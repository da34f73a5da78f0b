import { describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { BlockBuffers } from '../../../src/swarm/block-buffers.ts'
import { BlockStore } from '../../../src/swarm/block-store.ts'
import { recordingLog } from './support.ts'

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
  const store = new BlockStore({ pool, buffers, log, clock: { monotonicMs: () => 0 } })
  const stored: number[] = []
  const failed: string[] = []
  const add = (n: number) =>
    store.add({
      hash: new Uint8Array([n]),
      block: new Uint8Array(65_536),
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
    expect(pool.calls.map(({ entries }) => entries.length)).toEqual([1])
    pool.calls[0]!.finish()
    await tick()
    expect(pool.calls.map(({ entries }) => entries.length)).toEqual([1, 9])
    pool.calls[1]!.finish()
    await tick()
    expect(stored).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
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
