import { expect, test } from 'vitest'
import { UploadRates } from '../../../src/swarm/upload-rates.ts'

const BURST = 64 * 1024
const NO_LIMIT = Number.POSITIVE_INFINITY

test('what is sent counts against the rate, a courtesy against its own too', () => {
  const rates = new UploadRates()
  rates.limit({ maxUploadBytesPerSecond: 1000, maxCourtesyBytesPerSecond: 100 }, 0)
  rates.spend(BURST, false, 0)
  expect(rates.waitMs(0)).toBeGreaterThan(0)
  expect(rates.courtesyWaitMs(0)).toBe(0)
  rates.limit({ maxUploadBytesPerSecond: NO_LIMIT, maxCourtesyBytesPerSecond: 100 }, 0)
  rates.spend(BURST + 50, true, 0)
  expect(rates.waitMs(0)).toBe(0)
  expect(rates.courtesyWaitMs(0)).toBeGreaterThanOrEqual(500)
  expect(rates.courtesyWaitMs(1000)).toBe(0)
})

test('without a limit nothing waits, and a new one forgets the debt of the old one', () => {
  const rates = new UploadRates()
  rates.spend(1e12, true, 0)
  expect([rates.waitMs(0), rates.courtesyWaitMs(0)]).toEqual([0, 0])
  rates.limit({ maxUploadBytesPerSecond: 1000, maxCourtesyBytesPerSecond: NO_LIMIT }, 0)
  rates.spend(1e9, true, 0)
  expect(rates.waitMs(0)).toBeGreaterThan(100_000)
  rates.limit({ maxUploadBytesPerSecond: 2000, maxCourtesyBytesPerSecond: NO_LIMIT }, 1)
  expect(rates.waitMs(1)).toBe(0)
})
