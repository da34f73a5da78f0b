import { afterEach, expect, test } from 'vitest'
import { BusyPoll } from '../../../src/nbd/busy-poll.ts'
import { MAX_WAIT_MS, SHORT_WAITS } from '../../../src/nbd/poll-policy.ts'
import { COMMAND } from '../../../src/nbd/protocol.ts'
import { systemClock } from '../../../src/node/system.ts'
import { MemoryDevice } from '../../tools/memory-device.ts'
import { NbdClient, requestBytes } from '../../tools/nbd-client.ts'
import { serve, stopServers } from '../../tools/nbd-fixture.ts'

const STEP_MS = 0.005

afterEach(stopServers)

/** Goes on by itself, a little each time that somebody reads it, and counts these. */
class CountingClock {
  reads = 0
  #nowMs = 1000

  monotonicMs(): number {
    this.reads += 1
    this.#nowMs += STEP_MS
    return this.#nowMs
  }
}

const turn = () => new Promise(resolve => setImmediate(resolve))

async function turns(count: number): Promise<void> {
  for (let index = 0; index < count; index++) await turn()
}

test('looks once in each turn of the event loop, until the wait is too long', async () => {
  const clock = new CountingClock()
  const poll = new BusyPoll(clock)
  for (let index = 0; index < SHORT_WAITS; index++) {
    poll.answered()
    poll.arrived()
  }
  await turns(10)
  expect(clock.reads).toBe(2 * SHORT_WAITS)

  clock.reads = 0
  poll.answered()
  await turns(5)
  expect(clock.reads).toBeGreaterThanOrEqual(5)
  await turns(100)
  const most = 1 + MAX_WAIT_MS / STEP_MS
  expect(clock.reads).toBeGreaterThan(most - 2)
  expect(clock.reads).toBeLessThanOrEqual(most + 1)
})

test('is looking only once, however many requests come meanwhile', async () => {
  const clock = new CountingClock()
  const poll = new BusyPoll(clock)
  for (let index = 0; index < 3 * SHORT_WAITS; index++) {
    poll.answered()
    poll.arrived()
  }
  poll.answered()
  clock.reads = 0
  await turn()
  await turn()
  expect(clock.reads).toBeLessThanOrEqual(2)
})

/** Serves a disk and returns how often the server looked at the clock while it answered `ask`. */
async function looksDuring(
  ask: (client: NbdClient) => Promise<void>,
  prepare: (device: MemoryDevice) => void = () => {}
) {
  const clock = new CountingClock()
  const device = new MemoryDevice(64 * 1024)
  const { path } = await serve(device, { clock: { ...systemClock, monotonicMs: () => clock.monotonicMs() } })
  const client = await NbdClient.open(path)
  prepare(device)
  clock.reads = 0
  await ask(client)
  const { reads } = clock
  await client.disconnect()
  return reads
}

test('a server looks for the next request of a client that asks for one thing after the other', async () => {
  const requests = 100
  const reads = await looksDuring(async client => {
    for (let index = 0; index < requests; index++) await client.bytes(0, 512)
  })
  // Two for each request tell how long it waited.
  expect(reads).toBeGreaterThan(2.5 * requests)
})

test('a server sleeps where several requests are under way', async () => {
  const rounds = 50
  const reads = await looksDuring(async client => {
    for (let index = 0; index < rounds; index++) {
      const cookies = [1n, 2n]
      const replies = Promise.all(cookies.map(cookie => client.expect(cookie, 512)))
      client.send(Buffer.concat(cookies.map(cookie => requestBytes(COMMAND.READ, cookie, { length: 512 }))))
      await replies
    }
  })
  expect(reads).toBeLessThanOrEqual(2 * rounds)
})

test('a server sleeps while the disk has not answered', async () => {
  const requests = 30
  const reads = await looksDuring(
    async client => {
      for (let index = 0; index < requests; index++) await client.bytes(0, 512)
    },
    device => {
      device.hold = call => {
        setImmediate(() => {
          for (const { release } of device.held.splice(0)) release()
        })
        return call.operation === 'read'
      }
    }
  )
  expect(reads).toBeLessThanOrEqual(2 * requests)
})
