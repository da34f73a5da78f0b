import { expect, test } from 'vitest'
import { MAX_PEERS_TOLD } from '../../../src/directory/limits.ts'
import { ToldPeers } from '../../../src/directory/told-peers.ts'

const peers = (...names: string[]) => names.map(peer => ({ peer, addresses: [] }))
const names = (found: { peer: string }[]) => found.map(({ peer }) => peer)

test('whoever was told of a lease is remembered until it is forgotten, for each release apart', () => {
  const told = new ToldPeers()
  told.add('v1', peers('a', 'b'))
  told.add('v1', peers('b', 'c'))
  told.add('v2', peers('z'))
  expect(names(told.beside('v1', peers('b')))).toEqual(['a', 'c'])
  told.forget('v1')
  expect(told.beside('v1', [])).toEqual([])
  expect(names(told.beside('v2', []))).toEqual(['z'])
})

test('of many, those who were told last', () => {
  const told = new ToldPeers()
  for (let i = 0; i < MAX_PEERS_TOLD; i++) told.add('v1', peers(`p${i}`))
  told.add('v1', peers('p0', 'new'))
  const known = names(told.beside('v1', []))
  expect(known).toHaveLength(MAX_PEERS_TOLD)
  expect(known).toContain('p0')
  expect(known).not.toContain('p1')
})
