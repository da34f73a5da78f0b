/**
 * How a peer that nobody can dial comes to its relays, with real libp2p peers on loopback.
 *
 * Only public addresses count there, so connections are shown to it as if they were such (`asPublic`).
 */
import { createServer } from 'node:net'
import { circuitRelayServer, RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterEach, describe, expect, test } from 'vitest'
import { Neighbourhood } from '../../src/node/neighbourhood.ts'
import { rowanMuxer } from '../../src/node/peer.ts'
import { RelayClient } from '../../src/node/relay-client.ts'
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
async function startVolunteer() {
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
  client.start(peer, async () => void searches++)
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
    await waitUntil('what it tells', isBelieved, { timeoutMs: 10_000 })
    await liar.stop()
    await waitUntil('its end', () => volunteer.peer.getConnections().length === 0, { timeoutMs: 10_000 })
    return { ...volunteer, door, liar }
  }

  test('is not called there for a place', async () => {
    const { client, searches, door } = await setUp()
    await client.seek()
    // It is sought further on when nobody is left to be asked.
    await waitUntil('the end of the choice', () => searches() > 0, { timeoutMs: 20_000 })
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
