import { describe, expect, test } from 'vitest'
import { describeReachability } from '../../../src/node/peer-checks.ts'
import {
  isNamedForInternet,
  isOfInternet,
  mostUsefulFirst,
  provesReachable,
  type ServeSituation
} from '../../../src/node/reachability.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const RELAY = '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi'
const RELAYED = `/ip4/9.9.9.9/tcp/4001/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`
const situation = (changes: Partial<ServeSituation> = {}): ServeSituation => ({
  policy: 'auto',
  listen: ['/ip4/0.0.0.0/tcp/0'],
  announce: [],
  bootstrap: [`/ip4/9.9.9.9/tcp/4001/p2p/${RELAY}`],
  ...changes
})

describe('that others can dial this peer', () => {
  test('is shown by a call from the Internet, and not by one through a relay or from the home', () => {
    expect(provesReachable('/ip4/8.8.8.8/tcp/5', situation())).toBe(true)
    expect(provesReachable(RELAYED, situation())).toBe(false)
    expect(provesReachable('/ip4/192.168.1.7/tcp/5', situation())).toBe(false)
  })

  test('is taken for granted of what its owner named for the Internet', () => {
    expect(isNamedForInternet(situation())).toBe(false)
    expect(isNamedForInternet(situation({ listen: ['/ip4/192.168.1.7/tcp/4001'] }))).toBe(false)
    expect(isNamedForInternet(situation({ listen: ['/ip4/9.9.9.1/tcp/4001'] }))).toBe(true)
    expect(isNamedForInternet(situation({ announce: ['/dns4/example.org/tcp/4001'] }))).toBe(true)
    expect(isNamedForInternet(situation({ listen: [], announce: ['/dns4/example.org/tcp/4001'] }))).toBe(false)
  })
})

test('a relayed connection is none with the Internet', () => {
  expect([isOfInternet('/ip4/9.9.9.9/tcp/1'), isOfInternet(RELAYED), isOfInternet('/ip4/10.0.0.1/tcp/1')]).toEqual([
    true,
    false,
    false
  ])
})

test('public addresses come first, then relayed ones; the rest keeps its order', () => {
  const [loopback, home, open] = ['/ip4/127.0.0.1/tcp/1', '/ip4/192.168.1.7/tcp/1', '/ip4/9.9.9.1/tcp/1']
  expect(mostUsefulFirst([loopback, home, RELAYED, open])).toEqual([open, RELAYED, loopback, home])
})

test('a person is told which way others come', () => {
  const tell = (how: 'direct' | 'relay' | 'none' | 'off', relays: string[] = [], relayedPeers = 0) =>
    describeReachability({ how, relays, relayedPeers, relayedBytes: 0 })
  expect(tell('direct')).toBe('others can dial this peer')
  expect(tell('direct', [], 3)).toContain('3 that nobody can dial are called through it')
  expect(tell('relay', ['A', 'B'])).toContain('called through A and B, and calls back')
  expect(tell('none')).toContain('nobody has dialled this peer yet')
  expect(tell('off')).toContain('listens nowhere')
})
