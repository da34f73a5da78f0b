/**
 * How a peer that nobody can dial comes to its relays, with real libp2p peers on loopback.
 *
 * Only public addresses count there, so connections are shown to it as if they were such (`asPublic`).
 */
import { createServer } from 'node:net'
import { circuitRelayServer, RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Connection, PeerId } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterEach, describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../src/cluster.ts'
import { overriding } from '../../src/node/library-parts.ts'
import { Neighbourhood } from '../../src/node/neighbourhood.ts'
import { rowanMuxer } from '../../src/node/peer.ts'
import {
  CALLS_PER_CALLER_PER_MINUTE,
  CALLS_PER_MINUTE,
  CALLS_PER_RELAY_PER_MINUTE,
  RELAYS_WANTED,
  RelayClient
} from '../../src/node/relay-client.ts'
import { waitUntil } from '../tools/wait.ts'
import { ManualClock } from '../unit/release/support/clock.ts'
import { silentLog } from '../unit/swarm/support.ts'

const SOMEBODY = '12D3KooWSxi87aiqEM5hCxqK55utTw6HZUErvPcvnDLXAeJFEKRW'
const CLOSED = '/ip4/127.0.0.1/tcp/1'
const started: { stop(): unknown }[] = []

afterEach(async () => {
  for (const each of started.splice(0).reverse()) await each.stop()
})

/** What somebody tells of itself: that it is at a place that is another's, and that it is a relay. */
async function startLiar(place: string): Promise<Libp2p> {
  const liar = await createLibp2p({
    addresses: { listen: [], announce: [place] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [rowanMuxer()],
    services: { identify: identify(), relay: circuitRelayServer() }
  })
  started.push(liar)
  return liar
}

/** A service of this network that is none of the grid's; counts who comes. */
async function openDoor(): Promise<{ place: string; knocks: () => number }> {
  let knocks = 0
  const server = createServer(socket => {
    knocks++
    socket.destroy()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  started.push({ stop: () => server.close() })
  return { place: `/ip4/127.0.0.1/tcp/${(server.address() as { port: number }).port}`, knocks: () => knocks }
}

/** A peer behind a router that has met a neighbour, so that private addresses are open to it. */
async function startVolunteer(asPublic = (_: Connection): string | undefined => undefined) {
  const clock = new ManualClock()
  const client = new RelayClient({ clock, log: silentLog })
  const neighbourhood = new Neighbourhood()
  const peer = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp(), client.transport],
    connectionEncrypters: [noise()],
    streamMuxers: [rowanMuxer()],
    connectionGater: { denyDialMultiaddr: address => !neighbourhood.mayDial(address.toString()) },
    services: { identify: identify() }
  })
  started.push(peer)
  neighbourhood.met('/ip4/127.0.0.1/tcp/2')
  let searches = 0
  const shown = overriding(peer, {
    getConnections: () =>
      peer.getConnections().map(connection => {
        const address = asPublic(connection)
        return address === undefined ? connection : overriding(connection, { remoteAddr: multiaddr(address) })
      })
  })
  client.start(shown, async () => void searches++)
  started.push({ stop: () => client.release() })
  return { client, clock, peer, searches: () => searches }
}

describe('one that claims to be a relay where another is', () => {
  /** It has come once, told that, and left. */
  async function setUp() {
    const door = await openDoor()
    const volunteer = await startVolunteer()
    const liar = await startLiar(door.place)
    await liar.dial(volunteer.peer.getMultiaddrs())
    const isBelieved = async () => {
      const [known] = (await volunteer.peer.peerStore.all()).filter(({ id }) => id.equals(liar.peerId))
      const isThere = known?.addresses.some(address => address.multiaddr.toString().startsWith(door.place))
      return isThere && known!.protocols.includes(RELAY_V2_HOP_CODEC)
    }
    await waitUntil('what it tells', isBelieved)
    await liar.stop()
    await waitUntil('its end', () => volunteer.peer.getConnections().length === 0)
    return { ...volunteer, door, liar }
  }

  test('is not called there for a place', async () => {
    const { client, searches, door } = await setUp()
    await client.seek()
    // It is sought further on when nobody is left to be asked.
    await waitUntil('the end of the choice', () => searches() > 0)
    expect(door.knocks()).toBe(0)
  })

  test('is not called there by who calls somebody through it', async () => {
    const { peer, liar, door } = await setUp()
    const through = `${CLOSED}/p2p/${liar.peerId}/p2p-circuit/p2p/${SOMEBODY}`
    await expect(peer.dial(multiaddr(through))).rejects.toThrow()
    // Nor at an address over a relay that it names itself.
    const named = `${door.place}/p2p/${liar.peerId}/p2p-circuit/p2p/${SOMEBODY}`
    await expect(peer.dial(multiaddr(named))).rejects.toThrow()
    expect(door.knocks()).toBe(0)
  })
})

/** A relay that gives so many places. */
async function startRelay(places: number): Promise<Libp2p> {
  const relay = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [rowanMuxer()],
    services: { identify: identify(), relay: circuitRelayServer({ reservations: { maxReservations: places } }) }
  })
  started.push(relay)
  return relay
}

/** A volunteer that has called these relays at addresses that look public, of which some are at one host; and some may follow. */
async function callRelays(relays: readonly { relay: Libp2p; host: string }[], later: typeof relays = []) {
  const hosts = new Map([...relays, ...later].map(({ relay, host }) => [relay.peerId.toString(), host]))
  const volunteer = await startVolunteer(({ remotePeer }) => `/ip4/${hosts.get(remotePeer.toString())}/tcp/4601`)
  for (const { relay } of relays) await volunteer.peer.dial(relay.getMultiaddrs())
  const areKnown = async () =>
    (await volunteer.peer.peerStore.all()).filter(({ protocols }) => protocols.includes(RELAY_V2_HOP_CODEC)).length ===
    relays.length
  await waitUntil('the relays to say who they are', areKnown)
  await volunteer.client.seek()
  return volunteer
}

const idsOf = (...relays: Libp2p[]) => relays.map(({ peerId }) => peerId.toString()).sort()

describe('the choice of relays', () => {
  test('takes different hosts before the same one twice', async () => {
    const [first, beside, other] = await Promise.all([startRelay(1), startRelay(1), startRelay(1)])
    const { client } = await callRelays([
      { relay: first!, host: '9.9.9.1' },
      { relay: beside!, host: '9.9.9.1' },
      { relay: other!, host: '9.9.9.2' }
    ])
    await waitUntil('two places', () => client.relays.length === RELAYS_WANTED)
    expect(client.relays.sort()).toEqual(idsOf(first!, other!))
  })

  test('takes such as carry blocks before others', async () => {
    const relays = await Promise.all([startRelay(1), startRelay(1), startRelay(1), startRelay(1)])
    for (const relay of relays.slice(2)) await relay.handle(PROTOCOL.blocksRelay, () => undefined)
    const { client } = await callRelays(relays.map((relay, index) => ({ relay, host: `9.9.9.${index}` })))
    await waitUntil('two places', () => client.relays.length === RELAYS_WANTED)
    expect(client.relays.sort()).toEqual(idsOf(...relays.slice(2)))
  })

  test('asks one that had no place again after a pause, and each time a longer one', async () => {
    const [relay, other] = await Promise.all([startRelay(1), startRelay(1)])
    let asked = 0
    await relay.unhandle(RELAY_V2_HOP_CODEC)
    await relay.handle(RELAY_V2_HOP_CODEC, stream => {
      asked++
      stream.abort(new Error('no place'))
    })
    const { client, clock, peer } = await callRelays([{ relay, host: '9.9.9.1' }], [{ relay: other, host: '9.9.9.2' }])
    // It looks every quarter of a minute; the pauses are 5, 10, 20 seconds.
    for (const times of [1, 2, 3]) {
      await waitUntil(`question ${times}`, () => asked === times)
      clock.advance(15_000)
    }
    // One that is met now is asked, after the first would have been.
    await peer.dial(other.getMultiaddrs())
    await waitUntil('a place at the other', () => client.relays.length === 1)
    expect(asked).toBe(3)
    clock.advance(15_000)
    await waitUntil('question 4', () => asked === 4)
  })
})

describe('calls through relays', () => {
  /** @returns how many of these were let through */
  const count = (calls: number, denies: (call: number) => boolean) =>
    Array.from({ length: calls }, (_, call) => denies(call)).filter(isDenied => !isDenied).length

  /** Any id will do for a caller. */
  const caller = (number: number) => ({ toString: () => `caller ${number}` }) as PeerId

  test('are bounded for each caller, for each relay, and in all', async () => {
    const [one, two] = await Promise.all([startRelay(1), startRelay(1)])
    const { client, clock } = await callRelays([
      { relay: one!, host: '9.9.9.1' },
      { relay: two!, host: '9.9.9.2' }
    ])
    await waitUntil('two places', () => client.relays.length === RELAYS_WANTED)
    const through = (relay: Libp2p, number: number) => client.deniesCall(relay.peerId, caller(number))
    expect(count(100, () => through(one!, 0))).toBe(CALLS_PER_CALLER_PER_MINUTE)
    // Its vain calls have cost nobody else anything.
    const left = CALLS_PER_RELAY_PER_MINUTE - CALLS_PER_CALLER_PER_MINUTE
    expect(count(100, call => through(one!, call + 1))).toBe(left)
    expect(count(100, call => through(two!, call + 1_000))).toBe(CALLS_PER_MINUTE - CALLS_PER_RELAY_PER_MINUTE)
    clock.advance(60_000)
    expect(through(one!, 0)).toBe(false)
  })

  test('through one that has given no place are not let in', async () => {
    const relay = await startRelay(0)
    const { client, searches } = await callRelays([{ relay, host: '9.9.9.1' }])
    await waitUntil('the end of the choice', () => searches() > 0)
    expect(client.deniesCall(relay.peerId, caller(0))).toBe(true)
  })
})
