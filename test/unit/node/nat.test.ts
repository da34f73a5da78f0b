/**
 * When a peer counts as one that can be dialled, and until when. The Internet is played: connections from it, and this host's addresses.
 */
import { RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Connection } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, expect, test } from 'vitest'
import { overriding } from '../../../src/node/library-parts.ts'
import { Nat, REVIEW_MS } from '../../../src/node/nat.ts'
import { startPeer } from '../../../src/node/peer.ts'
import { PROOF_MS } from '../../../src/node/reach-proofs.ts'
import { systemRandom } from '../../../src/node/system.ts'
import { waitUntil } from '../../tools/wait.ts'
import { ManualClock } from '../release/support/clock.ts'
import { recordingLog } from '../swarm/support.ts'

const V4 = '/ip4/8.8.8.8/tcp/1234'
const V6 = '/ip6/2a00:1450::1/tcp/1234'
const PATIENCE_MS = 3_000
const started: { stop(): unknown }[] = []

afterEach(async () => {
  for (const each of started.splice(0).reverse()) await each.stop()
})

async function setUp(options: { announce?: string[] } = {}) {
  const { announce = [] } = options
  const clock = new ManualClock()
  const { log, lines } = recordingLog()
  const listen = ['/ip4/127.0.0.1/tcp/0']
  const connections: Connection[] = []
  let own = ['/ip4/192.168.1.2/tcp/4601', '/ip6/2a00:1450:1::2/tcp/4601']
  const situation = { policy: 'auto', listen, announce, bootstrap: [] } as const
  const relay = { maxReservations: 8 }
  const nat = new Nat(
    { clock, random: systemRandom, log },
    { situation: { ...situation, announce, bootstrap: [] }, useRelays: true, mapPort: false, relay }
  )
  const atHome = overriding(nat, {
    service: components => {
      const addressManager = overriding(components.addressManager, {
        getAddressesWithMetadata: () =>
          own.map(text => ({ multiaddr: multiaddr(text), verified: true, expires: 0, type: 'transport' }))
      })
      return nat.service(overriding(components, { addressManager }))
    }
  })
  const privateKey = await generateKeyPair('Ed25519')
  const peer = await startPeer({
    ...{ privateKey, listen, announce, dhtServer: false, maxPeers: 100, mayDial: () => false, nat: atHome }
  })
  started.push(peer)
  nat.start(overriding(peer, { getConnections: () => connections }))
  started.push(nat)
  /** Somebody is connected, until the answer is called. */
  const connect = (direction: 'inbound' | 'outbound', from: string) => {
    const remotePeer = peer.peerId
    const connection = {
      direction,
      remotePeer,
      remoteAddr: multiaddr(from),
      status: 'open',
      direct: true
    } as Connection
    connections.push(connection)
    peer.dispatchEvent(new CustomEvent('connection:open', { detail: connection }))
    return () => void connections.splice(connections.indexOf(connection), 1)
  }
  return {
    clock,
    how: () => nat.state().how,
    connect,
    isRelay: (is: boolean) =>
      waitUntil(`it to be ${is ? 'a' : 'no'} relay`, () => peer.getProtocols().includes(RELAY_V2_HOP_CODEC) === is),
    searches: () => lines.filter(({ message }) => message.includes('nobody has dialled')).length,
    move: (addresses: string[]) => {
      own = addresses
      clock.advance(REVIEW_MS)
    }
  }
}

test('who is not dialled for long enough is behind a router again, and seeks relays', async () => {
  const { clock, how, connect, isRelay, searches } = await setUp()
  connect('outbound', V4)
  expect(how()).toBe('none')
  const leave = connect('inbound', V4)
  expect(how()).toBe('direct')
  await isRelay(true)
  leave()
  clock.advance(PROOF_MS - REVIEW_MS)
  expect([how(), searches()]).toEqual(['direct', 0])
  clock.advance(2 * REVIEW_MS)
  expect([how(), searches()]).toEqual(['none', 1])
  await isRelay(false)
  connect('inbound', V4)
  expect(how()).toBe('direct')
  await isRelay(true)
})

test('who came in and stays is proof as long', async () => {
  const { clock, how, connect } = await setUp()
  const leave = connect('inbound', V4)
  clock.advance(3 * PROOF_MS)
  expect(how()).toBe('direct')
  leave()
  clock.advance(PROOF_MS + REVIEW_MS)
  expect(how()).toBe('none')
})

test('who is dialled by IPv6 only is a relay, and seeks relays for those who have IPv4', async () => {
  const { clock, how, connect, isRelay, searches } = await setUp()
  connect('inbound', V6)
  await isRelay(true)
  expect([how(), searches()]).toEqual(['direct', 0])
  clock.advance(PATIENCE_MS)
  expect(searches()).toBe(1)
  connect('inbound', V4)
  clock.advance(PATIENCE_MS)
  expect([how(), searches()]).toEqual(['direct', 1])
})

test('what an address has proven ends with it, whoever still seems to be connected', async () => {
  const { clock, how, connect, searches, move } = await setUp()
  connect('inbound', V4)
  connect('inbound', V6)
  move(['/ip4/192.168.1.2/tcp/4601', '/ip4/10.0.0.2/tcp/4601', '/ip6/2a00:1450:1::2/tcp/4601'])
  expect(how()).toBe('direct')
  move(['/ip4/10.0.0.2/tcp/4601', '/ip6/2a00:1450:1::2/tcp/4601'])
  clock.advance(PATIENCE_MS)
  // By IPv6 it is where it was.
  expect([how(), searches()]).toEqual(['direct', 1])
  move(['/ip4/10.0.0.2/tcp/4601'])
  expect(how()).toBe('none')
  clock.advance(REVIEW_MS)
  expect(how()).toBe('none')
})

test('where this host is of the Internet itself, other networks of it may come and go', async () => {
  const { how, connect, move } = await setUp()
  move(['/ip4/9.9.9.9/tcp/4601', '/ip4/172.17.0.1/tcp/4601'])
  connect('inbound', V4)
  move(['/ip4/9.9.9.9/tcp/4601'])
  expect(how()).toBe('direct')
  move(['/ip4/9.9.9.8/tcp/4601'])
  expect(how()).toBe('none')
})

test('what its owner has named needs no proof', async () => {
  const { clock, how, connect, searches, move } = await setUp({ announce: ['/ip4/9.9.9.9/tcp/4601'] })
  connect('outbound', V4)
  clock.advance(2 * PROOF_MS)
  move([])
  expect([how(), searches()]).toEqual(['direct', 0])
})
