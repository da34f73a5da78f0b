import { expect, test } from 'vitest'
import { WaitMeter } from '../../../src/disk/wait-meter.ts'

test('overlapping waits count once, the longest and the number are of single reads', async () => {
  const clock = { ms: 1000, monotonicMs: () => clock.ms }
  const meter = new WaitMeter(clock)
  const first = Promise.withResolvers<void>()
  const second = Promise.withResolvers<void>()
  const firstDone = meter.during(first.promise)
  clock.ms += 30
  const secondDone = meter.during(second.promise)
  clock.ms += 20
  expect(meter.waitedMs).toBe(50)
  first.resolve()
  await firstDone
  clock.ms += 5
  second.reject(new Error('lost'))
  await expect(secondDone).rejects.toThrow('lost')
  clock.ms += 1000
  expect(meter.waitedMs).toBe(55)
  expect(meter.longestMs).toBe(50)
  expect(meter.reads).toBe(2)
})
