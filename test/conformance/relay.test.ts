/**
 * A peer that is a relay, asked by libp2p peers that know nothing of rowan's bounds.
 */
import {
  type CircuitRelayTransportComponents,
  circuitRelayTransport,
  RELAY_V2_HOP_CODEC
} from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterEach, describe, expect, test } from 'vitest'
import { PROTOCOL } from '../../src/cluster.ts'
import type { Clock } from '../../src/environment.ts'
import { Nat } from '../../src/node/nat.ts'
import { type RowanPeer, rowanMuxer, startPeer } from '../../src/node/peer.ts'
import {
  CIRCUITS_PER_NETWORK_PER_MINUTE,
  HOP_STREAMS_PER_NETWORK,
  HOP_STREAMS_PER_PEER,
  RESERVATIONS_PER_NETWORK,
  RelayServer,
  type RelaySettings
} from '../../src/node/relay-server.ts'
import { systemClock, systemRandom } from '../../src/node/system.ts'
import { waitUntil } from '../tools/wait.ts'
import { ManualClock } from '../unit/release/support/clock.ts'
import { silentLog } from '../unit/swarm/support.ts'

const SINK = '/test/sink/1.0.0'
const KIB = 1024
const started: { stop(): unknown }[] = []

afterEach(async () => {
  for (const each of started.splice(0).reverse()) await each.stop()
})

/** A peer that offers to be a relay: a call came in from the only network that there is. */
async function startRelay(
  maxReservations: number,
  blocks?: RelaySettings['blocks'],
  clock: Clock = systemClock
): Promise<{ relay: RowanPeer; nat: Nat; address: string }> {
  const listen = ['/ip4/127.0.0.1/tcp/0']
  const situation = { policy: 'auto', listen, announce: [], bootstrap: [] } as const
  const nat = new Nat(
    { clock, random: systemRandom, log: silentLog },
    {
      situation: { ...situation, announce: [], bootstrap: [] },
      useRelays: true,
      mapPort: false,
      relay: { maxReservations, ...(blocks && { blocks }) }
    }
  )
  const privateKey = await generateKeyPair('Ed25519')
  const relay = await startPeer({
    ...{ privateKey, listen, announce: [], dhtServer: true, maxPeers: 100, mayDial: () => true, nat }
  })
  started.push(relay)
  nat.start(relay)
  started.push(nat)
  return { relay, nat, address: relay.getMultiaddrs()[0]!.toString() }
}

/** A libp2p peer that wants to be called through `relay`, if one is named. */
async function startGuest(relay?: string): Promise<Libp2p> {
  const guest = await createLibp2p({
    addresses: { listen: relay === undefined ? [] : [`${relay}/p2p-circuit`] },
    transports: [tcp(), (components: CircuitRelayTransportComponents) => circuitRelayTransport()(components)],
    connectionEncrypters: [noise()],
    streamMuxers: [rowanMuxer()],
    connectionMonitor: { enabled: false },
    // libp2p's own bound would come first
    connectionManager: { inboundConnectionThreshold: 1000 },
    services: { identify: identify() }
  })
  started.push(guest)
  return guest
}

/** One that has called the relay: from then on it offers places. */
async function startCaller(address: string): Promise<Libp2p> {
  const caller = await startGuest()
  await caller.dial(multiaddr(address))
  return caller
}

const count = async (guests: Promise<Libp2p>[]) =>
  (await Promise.allSettled(guests)).filter(({ status }) => status === 'fulfilled').length

describe('a flood of reservations', () => {
  test('ends at what one host may have, and leaves nothing behind', async () => {
    const { nat, address } = await startRelay(100)
    await startCaller(address)
    const guests = Array.from({ length: RESERVATIONS_PER_NETWORK + 4 }, () => startGuest(address))
    expect(await count(guests)).toBe(RESERVATIONS_PER_NETWORK)
    expect(nat.state().relayedPeers).toBe(RESERVATIONS_PER_NETWORK)
    await Promise.all((await Promise.allSettled(guests)).map(each => each.status === 'fulfilled' && each.value.stop()))
    await waitUntil('free places', () => nat.state().relayedPeers === 0)
    expect(await count([startGuest(address)])).toBe(1)
  })

  test('ends at what the relay has', async () => {
    const { nat, address } = await startRelay(2)
    await startCaller(address)
    expect(await count([1, 2, 3].map(() => startGuest(address)))).toBe(2)
    expect(nat.state().relayedPeers).toBe(2)
  })

  test('finds no place where the owner gives none', async () => {
    const { relay, address } = await startRelay(0)
    await startCaller(address)
    expect(await count([startGuest(address)])).toBe(0)
    expect(relay.getProtocols()).not.toContain(RELAY_V2_HOP_CODEC)
  })
})

test('an offer that is taken back and made again at once stands', async () => {
  const server = new RelayServer({ clock: systemClock, log: silentLog }, { maxReservations: 2 })
  const relay = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [rowanMuxer()],
    services: { identify: identify(), relay: server.service }
  })
  started.push(relay)
  await Promise.all([server.offer(), server.stop(), server.offer()])
  await server.stop()
  await server.offer()
  const { stream, got } = await openCircuit(relay.getMultiaddrs()[0]!.toString())
  stream.send(new Uint8Array(KIB))
  await waitUntil('what is sent through it', () => got.bytes === KIB)
  await server.stop()
  expect(relay.getProtocols()).not.toContain(RELAY_V2_HOP_CODEC)
})

test('a peer can have so many questions open, and a stranger still gets an answer', async () => {
  const { address } = await startRelay(10)
  const flooder = await startCaller(address)
  // More connections give it no more.
  await flooder.dial(multiaddr(address), { force: true })
  const streams = await Promise.all(
    flooder
      .getConnections()
      .flatMap(connection => Array.from({ length: HOP_STREAMS_PER_PEER }, () => connection))
      .map(connection => connection.newStream(RELAY_V2_HOP_CODEC).catch(() => undefined))
  )
  expect(streams).toHaveLength(2 * HOP_STREAMS_PER_PEER)
  await waitUntil(
    'streams beyond the limit to end',
    () => streams.filter(stream => stream?.status === 'open').length <= HOP_STREAMS_PER_PEER,
    // Sooner than an idle one is given up.
    { timeoutMs: 5_000 }
  )
  expect(await count([startGuest(address)])).toBe(1)
})

test('a network can have so many questions open, whatever ids it takes', async () => {
  const { address } = await startRelay(10)
  const ids = HOP_STREAMS_PER_NETWORK / HOP_STREAMS_PER_PEER + 1
  const flooders = await Promise.all(Array.from({ length: ids }, () => startCaller(address)))
  const streams = await Promise.all(
    flooders
      .flatMap(flooder => Array.from({ length: HOP_STREAMS_PER_PEER }, () => flooder.getConnections()[0]!))
      .map(connection => connection.newStream(RELAY_V2_HOP_CODEC).catch(() => undefined))
  )
  const open = () => streams.filter(stream => stream?.status === 'open').length
  await waitUntil('streams beyond the limit to end', () => open() <= HOP_STREAMS_PER_NETWORK, { timeoutMs: 5_000 })
})

/** A circuit from a caller to a guest that counts what it gets. */
async function openCircuit(address: string) {
  const caller = await startCaller(address)
  const guest = await startGuest(address)
  const got = { bytes: 0 }
  const count = (stream: Stream) =>
    stream.addEventListener('message', ({ data }) => {
      got.bytes += data.byteLength
    })
  await guest.handle(SINK, count, { runOnLimitedConnection: true })
  const circuit = await caller.dial(multiaddr(`${address}/p2p-circuit/p2p/${guest.peerId}`))
  const stream = await circuit.newStream(SINK, { runOnLimitedConnection: true })
  return { circuit, stream, got }
}

describe('a circuit', () => {
  test('carries what turning round needs, and breaks before it has carried blocks', async () => {
    const { address } = await startRelay(10)
    const { circuit, stream, got } = await openCircuit(address)
    expect(circuit.limits?.bytes).toBeLessThanOrEqual(128n * 1024n)
    stream.send(new Uint8Array(32 * KIB))
    await waitUntil('the first bytes', () => got.bytes === 32 * KIB)
    stream.send(new Uint8Array(256 * KIB))
    await waitUntil('the end of the circuit', () => circuit.status !== 'open')
    expect(got.bytes).toBeLessThan(2 * 64 * KIB)
  })

  test('carries no blocks unless the relay says so to all', async () => {
    const [plain, carrying] = await Promise.all([
      startRelay(10),
      startRelay(10, { maxBytes: KIB, maxBytesPerSecond: KIB })
    ])
    for (const { address } of [plain, carrying]) await startCaller(address)
    await waitUntil('the offer', () => carrying.relay.getProtocols().includes(PROTOCOL.blocksRelay))
    expect(plain.relay.getProtocols()).not.toContain(PROTOCOL.blocksRelay)
    await carrying.nat.stop()
    expect(carrying.relay.getProtocols()).not.toContain(PROTOCOL.blocksRelay)
  })

  test('carries blocks where the relay lets it, no faster than it may, and no more', async () => {
    const limits = { maxBytes: 3 * KIB * KIB, maxBytesPerSecond: KIB * KIB }
    const { nat, address } = await startRelay(10, limits)
    const { circuit, stream, got } = await openCircuit(address)
    expect(circuit.limits?.bytes).toBeGreaterThan(2n * 1024n * 1024n)
    const startMs = performance.now()
    for (let i = 0; i < 32; i++) stream.send(new Uint8Array(64 * KIB))
    await waitUntil('two megabytes', () => got.bytes === 2 * KIB * KIB)
    // What a muxer's window lets through at once may be ahead of the rate; the next must wait for it.
    stream.send(new Uint8Array(64 * KIB))
    await waitUntil('a block more', () => got.bytes === (2 * KIB + 64) * KIB)
    expect(performance.now() - startMs).toBeGreaterThan(1_500)
    expect(nat.state().relayedBytes).toBeGreaterThan(2 * KIB * KIB)
    stream.send(new Uint8Array(2 * KIB * KIB))
    await waitUntil('the end of the circuit', () => circuit.status !== 'open')
    expect(got.bytes).toBeLessThanOrEqual(3 * KIB * KIB)
  })
})

describe('a relay that carries no blocks is no proxy', () => {
  test('one network begins so many circuits a minute', async () => {
    const clock = new ManualClock()
    const { address } = await startRelay(10, undefined, clock)
    // Another id does not help.
    const callers = await Promise.all([startCaller(address), startCaller(address)])
    const guest = await startGuest(address)
    const circuit = multiaddr(`${address}/p2p-circuit/p2p/${guest.peerId}`)
    const call = async (caller: Libp2p) => {
      const connection = await caller.dial(circuit, { force: true })
      await connection.close()
    }
    for (let i = 0; i < CIRCUITS_PER_NETWORK_PER_MINUTE; i++) await call(callers[i % 2]!)
    for (const caller of callers) await expect(call(caller)).rejects.toThrow('PERMISSION_DENIED')
    clock.advance(60_000)
    await call(callers[0]!)
  })

  test('what passes through all circuits waits for their rate', async () => {
    const clock = new ManualClock()
    const { nat, address } = await startRelay(10, undefined, clock)
    const { stream, got } = await openCircuit(address)
    const isWaiting = () => clock.waiting > idle
    const idle = clock.waiting
    stream.send(new Uint8Array(100 * KIB))
    await waitUntil('the end of what may pass at once', isWaiting)
    expect(nat.state().relayedBytes).toBeGreaterThan(64 * KIB)
    const passed = () => {
      clock.advance(1_000)
      return got.bytes === 100 * KIB
    }
    await waitUntil('the rest, with time', passed)
  })
})

test('on a line that costs, a relay gives no places and passes nothing on, until it does again', async () => {
  const { nat, address } = await startRelay(10, { maxBytes: 3 * KIB * KIB, maxBytesPerSecond: KIB * KIB })
  const { circuit, stream, got } = await openCircuit(address)
  stream.send(new Uint8Array(32 * KIB))
  await waitUntil('the first bytes', () => got.bytes === 32 * KIB)
  nat.setQuiet(true)
  await waitUntil('the end of the circuit', () => circuit.status !== 'open')
  const caller = await startCaller(address)
  await expect(caller.dial(circuit.remoteAddr)).rejects.toThrow()
  expect(await count([startGuest(address)])).toBe(0)
  nat.setQuiet(false)
  expect((await caller.dial(circuit.remoteAddr)).status).toBe('open')
})
