/**
 * Calling a replica through a relay. The network is a double; with real peers it is test/e2e/nat.test.ts.
 */
import type { Connection, ConnectionLimits } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { Dialer, type DialNetwork } from '../../../src/swarm/dialer.ts'
import { MIN_RELAYED_BYTES } from '../../../src/swarm/relayed.ts'
import { ManualClock } from '../release/support/clock.ts'

const PEER = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const RELAY = '12D3KooWPv9JYcRtUoZt8WoKauZw8GqQw3m8FVsMRe6qZJnAP2vi'
const RELAYED = `/ip4/9.9.9.9/tcp/1/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`
const OTHER_RELAYED = RELAYED.replace('9.9.9.9', '8.8.8.8')
const CONTROL: ConnectionLimits = { bytes: 128n * 1024n, seconds: 120 }
const DATA: ConnectionLimits = { bytes: BigInt(MIN_RELAYED_BYTES), seconds: 120 }

class TestConnection {
  readonly remotePeer = peerIdFromString(PEER)
  readonly id: string
  readonly limits: ConnectionLimits | undefined
  readonly remoteAddr = multiaddr(RELAYED)
  status = 'open'
  streams: { runOnLimitedConnection?: boolean }[] = []

  constructor(id: string, limits?: ConnectionLimits) {
    this.id = id
    this.limits = limits
  }

  async newStream(_protocol: string, options: { runOnLimitedConnection?: boolean }) {
    this.streams.push(options)
    return this
  }

  abort() {
    this.status = 'closed'
  }
}

/** @param second - of a second relay */
function setUp(limits: ConnectionLimits, second = CONTROL, mayDial: (address: string) => boolean = () => true) {
  const other = new TestConnection('other', second)
  const relayed = new TestConnection('relayed', limits)
  const connections: TestConnection[] = []
  const clock = new ManualClock()
  const dialled: string[] = []
  const network = {
    peerId: peerIdFromString(RELAY),
    getConnections: () => connections as unknown as Connection[],
    async dial(addresses) {
      dialled.push(...addresses.map(String))
      const called = addresses.some(address => address.toString() === RELAYED) ? relayed : other
      connections.push(called)
      return called as unknown as Connection
    }
  } satisfies DialNetwork
  const may = { mayDial: (address: Multiaddr) => mayDial(address.toString()), isNear: () => false }
  const dialer = new Dialer({ network, ...may, clock })
  return { relayed, other, connections, dialled, clock, dialer }
}

/** Lets time pass until the call has come to an end. */
async function settled<T>(call: Promise<T>, clock: ManualClock, stepMs = 50): Promise<T> {
  let isDone = false
  const done = () => {
    isDone = true
  }
  call.then(done, done)
  for (let i = 0; i < 1000 && !isDone; i++) {
    clock.advance(stepMs)
    for (let turn = 0; turn < 5; turn++) await Promise.resolve()
  }
  return call
}

test('a peer that was called through a relay is spoken to over the connection with which it calls back', async () => {
  const { relayed, connections, clock, dialer } = setUp(CONTROL)
  const direct = new TestConnection('direct')
  clock.after(1_000, () => connections.push(direct))
  await settled(dialer.open(PEER, [RELAYED]), clock)
  expect([direct.streams.length, relayed.streams.length]).toEqual([1, 0])
})

test('one that does not call back is not asked for blocks through a relay that carries none', async () => {
  const { relayed, clock, dialer } = setUp(CONTROL)
  await expect(settled(dialer.open(PEER, [RELAYED]), clock)).rejects.toMatchObject({ code: 'NO_REPLICA' })
  expect([relayed.status, relayed.streams.length]).toEqual(['closed', 0])
})

test('and is through one that carries them', async () => {
  const { relayed, clock, dialer } = setUp(DATA)
  await settled(dialer.open(PEER, [RELAYED]), clock)
  expect(relayed.streams).toEqual([expect.objectContaining({ runOnLimitedConnection: true })])
})

test('one that announces two relays is asked over that which carries blocks', async () => {
  const { relayed, other, clock, dialer } = setUp(CONTROL, DATA)
  await settled(dialer.open(PEER, [RELAYED, OTHER_RELAYED]), clock)
  expect([relayed.status, relayed.streams.length, other.streams.length]).toEqual(['closed', 0, 1])
})

test('and over none, if none does', async () => {
  const { other, clock, dialer } = setUp(CONTROL, CONTROL)
  const call = settled(dialer.open(PEER, [RELAYED, OTHER_RELAYED]), clock)
  await expect(call).rejects.toMatchObject({ code: 'NO_REPLICA' })
  expect([other.status, other.streams.length]).toEqual(['closed', 0])
})

test('of the addresses that a peer announces, only those that may be called are called', async () => {
  const isPublic = (address: string) => !address.includes('192.168.')
  const { clock, dialled, dialer } = setUp(DATA, DATA, isPublic)
  await settled(dialer.open(PEER, ['/ip4/192.168.1.1/tcp/80', '/ip4/9.9.9.9/tcp/1']), clock)
  expect(dialled).toEqual([`/ip4/9.9.9.9/tcp/1/p2p/${PEER}`])
})

test('and none where none may be', async () => {
  const { clock, dialled, dialer } = setUp(DATA, DATA, () => false)
  const call = settled(dialer.open(PEER, ['/ip4/192.168.1.1/tcp/80']), clock)
  await expect(call).rejects.toMatchObject({ code: 'NO_REPLICA' })
  expect(dialled).toEqual([])
})

test('an address that ends in the id of another peer is not called, nor what is no address', async () => {
  const { clock, dialled, dialer } = setUp(DATA, DATA)
  const others = [`/ip4/9.9.9.9/tcp/1/p2p/${RELAY}`, RELAYED.replace(PEER, RELAY), 'http://9.9.9.9/']
  await settled(dialer.open(PEER, [...others, `/ip4/9.9.9.9/tcp/2/p2p/${PEER}`]), clock)
  expect(dialled).toEqual([`/ip4/9.9.9.9/tcp/2/p2p/${PEER}`])
})
