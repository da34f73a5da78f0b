import { expect, test } from 'vitest'
import { MAX_MISSING_PEERS } from '../../../src/directory/limits.ts'
import { MissingPeers } from '../../../src/directory/missing-peers.ts'

test('a peer is missed from the first question it does not answer, for one TTL', () => {
  const missing = new MissingPeers({ forMs: 100 })
  expect(missing.isGone('a', 0)).toBe(false)
  missing.noAnswer('a', 0)
  missing.noAnswer('a', 60)
  expect(missing.isGone('a', 99)).toBe(false)
  expect(missing.isGone('a', 100)).toBe(true)
})

test('one that answers is back', () => {
  const missing = new MissingPeers({ forMs: 100 })
  missing.noAnswer('a', 0)
  missing.answered('a')
  expect(missing.isGone('a', 500)).toBe(false)
  missing.noAnswer('a', 500)
  expect(missing.isGone('a', 599)).toBe(false)
})

test('there is a limit to who is remembered', () => {
  const missing = new MissingPeers({ forMs: 1 })
  for (let i = 0; i <= MAX_MISSING_PEERS; i++) missing.noAnswer(`p${i}`, 0)
  expect(missing.isGone('p0', 9)).toBe(false)
  expect(missing.isGone('p1', 9)).toBe(true)
})
