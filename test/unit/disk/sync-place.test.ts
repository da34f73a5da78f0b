import { expect, test } from 'vitest'
import { SyncPlace } from '../../../src/disk/sync-place.ts'

const QUICK_MS = 0.15
const SLOW_MS = 8

function setUp() {
  let ms = 0
  const traffic = { requests: 0 }
  const place = new SyncPlace(() => ms, traffic)
  /** Syncs with `requests` before each. @returns how many were made in place */
  const syncs = async (count: number, durationMs: number, requests = 1) => {
    let inPlace = 0
    const file = {
      syncSync: () => {
        inPlace++
        ms += durationMs
      },
      sync: async () => {
        ms += durationMs
      }
    }
    for (let sync = 0; sync < count; sync++) {
      traffic.requests += requests
      await place.sync(file)
    }
    return inPlace
  }
  return { syncs }
}

test('quick syncs of a lone guest are made in place, once it is known that they are quick', async () => {
  const { syncs } = setUp()
  expect(await syncs(1, QUICK_MS)).toBe(0)
  await syncs(10, QUICK_MS)
  expect(await syncs(100, QUICK_MS)).toBe(100)
})

test('slow ones are made aside, and one that was slow by chance keeps few others from it', async () => {
  const { syncs } = setUp()
  expect(await syncs(100, SLOW_MS)).toBe(0)
  await syncs(30, QUICK_MS)
  await syncs(1, SLOW_MS)
  expect(await syncs(40, QUICK_MS)).toBeGreaterThan(25)
  await syncs(5, SLOW_MS)
  expect(await syncs(100, SLOW_MS)).toBe(0)
})

test('where others are served meanwhile, all are made aside', async () => {
  const { syncs } = setUp()
  await syncs(30, QUICK_MS)
  // The first comes after few requests still.
  expect(await syncs(100, QUICK_MS, 32)).toBeLessThanOrEqual(1)
  expect(await syncs(100, QUICK_MS, 2)).toBeGreaterThan(95)
})

test("an error is the caller's", async () => {
  const place = new SyncPlace(() => 0, { requests: 0 })
  const fails = () => {
    throw new Error('no')
  }
  await expect(place.sync({ syncSync: fails, sync: async () => fails() })).rejects.toThrow('no')
})
