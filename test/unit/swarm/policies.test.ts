import { describe, expect, test } from 'vitest'
import { Availability } from '../../../src/swarm/availability.ts'
import { PeerEstimate } from '../../../src/swarm/peer-estimate.ts'
import { TokenBucket } from '../../../src/swarm/token-bucket.ts'
import { UploadQueue } from '../../../src/swarm/upload-queue.ts'

describe('token bucket', () => {
  test('lets through its rate and no more', () => {
    const bucket = new TokenBucket(1000, 100, 0)
    let sent = 0
    for (let ms = 0; ms < 10_000; ms++) {
      while (bucket.waitMs(ms) === 0) {
        bucket.take(50, ms)
        sent += 50
      }
    }
    expect(sent).toBeGreaterThan(9_900)
    expect(sent).toBeLessThan(10_300)
  })

  test('says when the debt of a large send is paid', () => {
    const bucket = new TokenBucket(1000, 100, 0)
    bucket.take(600, 0)
    const waitMs = bucket.waitMs(0)
    expect(waitMs).toBeGreaterThanOrEqual(500)
    expect(bucket.waitMs(waitMs - 10)).toBeGreaterThan(0)
    expect(bucket.waitMs(waitMs)).toBe(0)
  })
})

describe('upload queue', () => {
  test('takes requesters in turn, and oldest first of each', () => {
    const queue = new UploadQueue<string, number>()
    for (const n of [1, 2, 3]) queue.add('greedy', n, 3, n)
    queue.add('modest', 9, 3, 9)
    const order = Array.from({ length: 4 }, () => queue.next(() => true)?.key)
    expect(order).toEqual([1, 9, 2, 3])
    expect(queue.next(() => true)).toBeUndefined()
  })

  test("nobody's fill goes before somebody's demand", () => {
    const queue = new UploadQueue<string, number>()
    for (let n = 0; n < 100; n++) queue.add('filler', n, 3, n)
    queue.add('guest', 1000, 0, 0)
    expect(queue.next(() => true)?.requester).toBe('guest')
  })

  test('a raised item overtakes, and is served once', () => {
    const queue = new UploadQueue<string, number>()
    for (const n of [1, 2, 3]) queue.add('a', n, 3, n)
    queue.raise('a', 3, 0)
    queue.raise('a', 77, 0)
    const order = Array.from({ length: 4 }, () => queue.next(() => true)?.key)
    expect(order).toEqual([3, 1, 2, undefined])
  })

  test('passes over requesters that cannot take anything', () => {
    const queue = new UploadQueue<string, number>()
    queue.add('stuck', 1, 0, 1)
    queue.add('free', 2, 3, 2)
    expect(queue.next(requester => requester === 'free')?.key).toBe(2)
    expect(queue.count('stuck')).toBe(1)
  })

  test('cancels what waits, and drops all of a requester', () => {
    const queue = new UploadQueue<string, number>()
    queue.add('a', 1, 0, 1)
    queue.add('a', 2, 0, 2)
    expect(queue.cancel('a', 1)).toBe(true)
    expect(queue.cancel('a', 1)).toBe(false)
    queue.drop('a')
    expect(queue.next(() => true)).toBeUndefined()
  })

  test('is bounded for each requester', () => {
    const queue = new UploadQueue<string, number>()
    let taken = 0
    for (let n = 0; n < 5000; n++) if (queue.add('flood', n, 3, n)) taken++
    expect(taken).toBe(1024)
    expect(queue.add('other', 1, 3, 1)).toBe(true)
    expect(queue.add('flood', 0, 0, 0)).toBe(true)
  })
})

describe('availability', () => {
  test('a partial replica has what its bitmaps say', () => {
    const availability = new Availability()
    const bitmap = new Uint8Array(128)
    bitmap[1] = 0b100
    availability.learn(false, [{ page: 2, bitmap }])
    expect([2 * 1024 + 10, 2 * 1024 + 11, 10].map(block => availability.has(block))).toEqual([true, false, false])
  })

  test('what it could not give it does not have, until it says so or is forgiven', () => {
    const availability = new Availability()
    availability.learn(true, [])
    availability.lacks(5)
    expect([availability.has(5), availability.has(6)]).toEqual([false, true])
    availability.forgive()
    expect(availability.has(5)).toBe(true)
  })

  test('one that lacks too much is not complete', () => {
    const availability = new Availability()
    availability.learn(true, [])
    for (let block = 0; block < 5000; block++) availability.lacks(block)
    expect(availability.complete).toBe(false)
  })

  test('one that was complete has what it says is left', () => {
    const availability = new Availability()
    availability.learn(true, [])
    const bitmap = new Uint8Array(128)
    bitmap[0] = 0b10
    availability.learn(false, [{ page: 0, bitmap }])
    expect(availability.complete).toBe(false)
    expect([0, 1, 1024].map(block => availability.has(block))).toEqual([false, true, false])
  })

  test('remembers a bounded number of pages', () => {
    const availability = new Availability()
    const bitmap = new Uint8Array(128).fill(255)
    for (let page = 0; page < 5000; page++) availability.learn(false, [{ page, bitmap }])
    expect(availability.has(4095 * 1024)).toBe(true)
    expect(availability.has(4096 * 1024)).toBe(false)
  })
})

/** A link that carries `bytesPerMs` after a round trip of `rttMs`: asks for as much as the estimate allows. */
function simulate(estimate: PeerEstimate, rttMs: number, bytesPerMs: number, forMs: number): void {
  const size = 65_536
  const inFlight: { mark: ReturnType<PeerEstimate['sent']>; atMs: number }[] = []
  let freeMs = 0
  for (let nowMs = 0; nowMs < forMs; nowMs++) {
    while (inFlight.length > 0 && inFlight[0]!.atMs <= nowMs) estimate.answered(inFlight.shift()!.mark, size, nowMs)
    while ((inFlight.length + 1) * size <= estimate.windowBytes) {
      freeMs = Math.max(freeMs, nowMs + rttMs) + size / bytesPerMs
      inFlight.push({ mark: estimate.sent(nowMs, inFlight.length * size), atMs: freeMs })
    }
  }
}

describe('peer estimate', () => {
  test('starts small towards an unknown peer', () => {
    expect(new PeerEstimate().windowBytes).toBe(8 * 65_536)
  })

  for (const [rttMs, bytesPerMs] of [
    [68, 6250],
    [150, 2500],
    [2, 100_000]
  ] as const) {
    test(`finds the rate of a link of ${rttMs} ms and ${(bytesPerMs * 8) / 1000} Mbit/s, and a window that fills it`, () => {
      const estimate = new PeerEstimate()
      estimate.addRoundTrip(rttMs, 0)
      simulate(estimate, rttMs, bytesPerMs, 4000)
      expect(estimate.rateBytesPerSecond! / (bytesPerMs * 1000)).toBeGreaterThan(0.85)
      expect(estimate.rateBytesPerSecond! / (bytesPerMs * 1000)).toBeLessThan(1.15)
      // The bandwidth-delay product, and no more on top than the queue's target and a block or two.
      const productBytes = bytesPerMs * rttMs
      expect(estimate.windowBytes).toBeGreaterThan(productBytes)
      expect(estimate.windowBytes).toBeLessThan(1.3 * productBytes + 26 * 1.15 * bytesPerMs + 3 * 65_536)
    })
  }

  test('the time-out follows RFC 6298', () => {
    const estimate = new PeerEstimate()
    expect(estimate.timeoutMs).toBe(1000)
    estimate.addRoundTrip(200, 0)
    expect(estimate.timeoutMs).toBe(600)
    for (let n = 0; n < 100; n++) estimate.addRoundTrip(200, n)
    expect(estimate.timeoutMs).toBeCloseTo(200, -1)
  })

  test('the burst of a rate limit is forgotten once the rate is measured', () => {
    const estimate = new PeerEstimate()
    estimate.addRoundTrip(1, 0)
    const marks = Array.from({ length: 8 }, (_, n) => estimate.sent(0, n * 65_536))
    estimate.answered(marks[0]!, 65_536, 1.5)
    expect(estimate.rateBytesPerSecond).toBeGreaterThan(40e6)
    for (let n = 1; n < 8; n++) estimate.answered(marks[n]!, 65_536, 1.5 + n * 22)
    expect(estimate.rateBytesPerSecond).toBeLessThan(5e6)
  })

  test('asking for little does not make a peer look slow', () => {
    const estimate = new PeerEstimate()
    estimate.addRoundTrip(10, 0)
    simulate(estimate, 10, 50_000, 1000)
    const before = estimate.rateBytesPerSecond!
    for (let n = 0; n < 100; n++) {
      const mark = estimate.sent(1000 + n * 100, 0)
      estimate.answered(mark, 65_536, 1000 + n * 100 + 12)
    }
    expect(estimate.rateBytesPerSecond).toBe(before)
  })
})
