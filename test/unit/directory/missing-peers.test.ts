import { expect, test } from 'vitest'
import { MAX_MISSING_PEERS, MISSED_FOR_MS } from '../../../src/directory/limits.ts'
import { MissingPeers } from '../../../src/directory/missing-peers.ts'

test('a peer is missed from the first question it does not answer, for half an hour', () => {
  const missing = new MissingPeers()
  expect(missing.isGone('a', 0)).toBe(false)
  missing.noAnswer('a', 0)
  missing.noAnswer('a', 60)
  expect(missing.isGone('a', MISSED_FOR_MS - 1)).toBe(false)
  expect(missing.isGone('a', MISSED_FOR_MS)).toBe(true)
})

test('one that answers is back', () => {
  const missing = new MissingPeers()
  missing.noAnswer('a', 0)
  missing.answered('a')
  expect(missing.isGone('a', MISSED_FOR_MS)).toBe(false)
  missing.noAnswer('a', MISSED_FOR_MS)
  expect(missing.isGone('a', 2 * MISSED_FOR_MS - 1)).toBe(false)
})

test('there is a limit to who is remembered', () => {
  const missing = new MissingPeers()
  for (let i = 0; i <= MAX_MISSING_PEERS; i++) missing.noAnswer(`p${i}`, 0)
  expect(missing.isGone('p0', MISSED_FOR_MS)).toBe(false)
  expect(missing.isGone('p1', MISSED_FOR_MS)).toBe(true)
})
