import { describe, expect, test } from 'vitest'
import { Agenda } from '../../../sim/agenda.ts'
import { dice } from '../../../sim/dice.ts'
import { Overlay } from '../../../sim/overlay.ts'
import { Sharing } from '../../../sim/sharing.ts'

const TTL_MS = 1_800_000

function world(seed: number, sharers: number): Sharing {
  const sharing = new Sharing({ seed, peers: 100, ttlMs: TTL_MS })
  sharing.join(sharers, TTL_MS / 3)
  sharing.pass(TTL_MS)
  return sharing
}

describe('many sharers in virtual time', () => {
  test('up to 1,024 are counted one by one, at every moment', () => {
    const sharing = world(1, 1000)
    for (let i = 0; i < 60; i++) {
      sharing.pass(TTL_MS / 20)
      expect(sharing.poll()).toEqual({ count: 1000, exact: true, inUse: true })
    }
  })

  test('more are estimated, and most of them rest', () => {
    const sharing = world(2, 20_000)
    sharing.takeTraffic()
    sharing.pass(2 * TTL_MS)
    const { count, exact } = sharing.poll()
    expect(exact).toBe(false)
    expect(Math.abs(count / 20_000 - 1)).toBeLessThan(0.125)
    const traffic = sharing.takeTraffic()
    expect(traffic).toHaveLength(20)
    for (const { renewals, questions } of traffic) {
      // Twice 1,024 sharers renew three times in a TTL, the others ask one of twenty once.
      expect(renewals / 2).toBeLessThan(1.2 * 2 * 1024 * 3)
      expect(questions / 2).toBeLessThan(1.5 * (20_000 / 20))
    }
  })

  test('a crowd that falls to a few is never seen as unused, and counted exactly within two TTLs', () => {
    const sharing = world(3, 10_000)
    sharing.pass(2 * TTL_MS)
    sharing.crash(40)
    let exactAfter = Infinity
    for (let i = 1; i <= 60; i++) {
      sharing.pass(TTL_MS / 20)
      const { count, exact, inUse } = sharing.poll()
      expect(inUse).toBe(true)
      if (exact && count === 40) exactAfter = Math.min(exactAfter, i / 20)
      else exactAfter = Infinity
    }
    expect(exactAfter).toBeLessThanOrEqual(2.1)
  })

  test('after the last one has crashed nobody knows of a lease after one TTL', () => {
    const sharing = world(4, 3)
    sharing.crash(0)
    sharing.pass(TTL_MS * 1.01)
    expect(sharing.poll()).toEqual({ count: 0, exact: true, inUse: false })
  })

  test('when most holders are replaced at once, leases follow within one renewal', () => {
    const sharing = world(5, 50)
    for (const { peer } of sharing.circle.slice(0, 18)) sharing.overlay.leave(peer)
    expect(sharing.poll().inUse).toBe(true)
    sharing.pass((TTL_MS / 3) * 1.11)
    const now = 1_795_000_000_000 + sharing.agenda.now
    for (const { peer } of sharing.circle) {
      expect(sharing.holder(peer).getSharers('publisher/grid@v1', now).found.hashes).toHaveLength(50)
    }
  })

  test('is the same for the same seed', () => {
    const run = (seed: number) => {
      const sharing = world(seed, 3000)
      return [sharing.poll(), sharing.takeTraffic()]
    }
    expect(run(6)).toEqual(run(6))
    expect(run(6)).not.toEqual(run(7))
  })
})

test('an agenda lets things happen in order, each at its time, and what is past next', () => {
  const agenda = new Agenda(10)
  const happened: [number, number][] = []
  for (const [at, id] of [
    [95, 1],
    [20, 2],
    [20, 3],
    [-5, 4]
  ] as const)
    agenda.at(at, id)
  agenda.advance(50, (id, now) => {
    happened.push([id, now])
    if (id === 2) agenda.at(now, 5)
  })
  expect(happened).toEqual([
    [4, 10],
    [2, 20],
    [3, 20],
    [5, 30]
  ])
  agenda.advance(100, id => happened.push([id, agenda.now]))
  expect(happened.at(-1)).toEqual([1, 100])
})

test('an overlay knows the twenty closest of those who are there', () => {
  const overlay = new Overlay(dice(1), 50)
  const place = dice(2).bytes(32)
  const first = overlay.closest('key', place)
  expect(first).toHaveLength(20)
  overlay.leave(first[0]!.peer)
  const second = overlay.closest('key', place)
  expect(second.slice(0, 19)).toEqual(first.slice(1))
  expect(overlay.isAlive(first[0]!.peer)).toBe(false)
})
