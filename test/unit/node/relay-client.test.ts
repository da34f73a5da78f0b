import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { leadsOver } from '../../../src/node/relay-client.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const RELAY = '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi'

test('a relayed address is announced where this peer has reached the relay, and at no place that the relay names', () => {
  const connection = { remotePeer: peerIdFromString(RELAY), remoteAddr: multiaddr('/ip4/9.9.9.9/tcp/4001') }
  const over = (relay: string, id = RELAY) => leadsOver(`${relay}/p2p/${id}/p2p-circuit/p2p/${PEER}`, [connection])
  expect(over('/ip4/9.9.9.9/tcp/4001')).toBe(true)
  expect(over('/ip4/9.9.9.9/tcp/4002')).toBe(false)
  expect(over('/ip4/8.8.8.8/tcp/80')).toBe(false)
  expect(over('/ip4/192.168.1.9/tcp/4001')).toBe(false)
  expect(over('/ip4/9.9.9.9/tcp/4001', PEER)).toBe(false)
})
