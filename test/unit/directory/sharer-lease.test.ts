import { describe, expect, test } from 'vitest'
import { isFarAbove, SharerLease } from '../../../src/directory/sharer-lease.ts'

const TTL_MS = 1_800_000
const circle = (...names: string[]) => names.map(peer => ({ peer, addresses: [] }))
const names = (peers: { peer: string }[]) => peers.map(({ peer }) => peer)

test('only a hash far above what a holder keeps may rest there', () => {
  expect(isFarAbove(0.3, 0.1)).toBe(true)
  expect(isFarAbove(0.15, 0.1)).toBe(false)
  expect(isFarAbove(0.999, 0.6)).toBe(false)
  expect(isFarAbove(0.999, 1)).toBe(false)
})

describe('a lease', () => {
  test('is renewed at every holder as long as none lets it rest', () => {
    const lease = new SharerLease()
    for (const now of [0, 10, 20]) {
      expect(names(lease.targets(circle('a', 'b'), now))).toEqual(['a', 'b'])
      lease.heard('a', false, 0)
      lease.settle(now)
      expect(lease.isResting).toBe(false)
    }
  })

  test('rests at a holder for one TTL, by that holder’s word alone', () => {
    const lease = new SharerLease()
    lease.targets(circle('liar', 'b'), 0)
    lease.heard('liar', true, TTL_MS)
    lease.heard('b', false, TTL_MS)
    lease.settle(0)
    expect(lease.isResting).toBe(false)
    expect(names(lease.targets(circle('liar', 'b'), TTL_MS / 3))).toEqual(['b'])
    expect(names(lease.targets(circle('liar', 'b', 'new'), (2 * TTL_MS) / 3))).toEqual(['b', 'new'])
    expect(names(lease.targets(circle('liar', 'b', 'new'), TTL_MS))).toEqual(['liar', 'b', 'new'])
  })

  test('that rests everywhere goes on as long as the holder that is asked says so', () => {
    const lease = new SharerLease()
    const holders = circle('a', 'b')
    lease.targets(holders, 0)
    for (const peer of ['a', 'b']) lease.heard(peer, true, TTL_MS)
    lease.settle(0)
    expect(lease.isResting).toBe(true)
    lease.probed(true, 2 * TTL_MS)
    expect(lease.isResting).toBe(true)
    lease.probed(false, 3 * TTL_MS)
    expect(lease.isResting).toBe(false)
    expect(names(lease.targets(holders, TTL_MS))).toEqual(['a', 'b'])
  })

  test('is renewed everywhere when nobody answers', () => {
    const lease = new SharerLease()
    lease.targets(circle('a'), 0)
    lease.heard('a', true, TTL_MS)
    lease.settle(0)
    lease.probed(undefined, 0)
    expect(names(lease.targets(circle('a'), 1))).toEqual(['a'])
  })

  test('without any holder does not rest', () => {
    const lease = new SharerLease()
    expect(lease.targets([], 0)).toEqual([])
    lease.settle(0)
    expect(lease.isResting).toBe(false)
  })
})
