/**
 * The libp2p peer that everything else talks through.
 *
 * One transport (TCP, and relays where nat.ts says so), one encryption (Noise), one muxer (Yamux with rowan's windows), and a Kademlia of rowan's own:
 * peers of other networks never meet ours. libp2p's defaults that do not fit are set here, each with its reason.
 */
import { identify, identifyPush } from '@libp2p/identify'
import type { Libp2p, MessageStream, PeerInfo, PrivateKey } from '@libp2p/interface'
import { type KadDHT, kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { HOLDERS_PER_KEY, INITIAL_STREAM_WINDOW_BYTES, MAX_STREAM_WINDOW_BYTES, PROTOCOL } from '../cluster.ts'
import { eager } from './eager-streams.ts'
import { listenFailed } from './given-addresses.ts'
import { askNetwork } from './lan.ts'
import type { Nat } from './nat.ts'
import { DHT_PREFIX, PeerDatastore } from './peer-datastore.ts'
import { rowanNoise } from './secure.ts'
import { gatherWindowUpdates } from './window-updates.ts'

export interface PeerSettings {
  privateKey: PrivateKey
  /** Multiaddrs to listen on; none makes a peer that can only call others. */
  listen: string[]
  /** Multiaddrs to announce instead of those listened on. */
  announce: string[]
  /** Whether this peer answers the DHT's questions from its first moment on. */
  dhtServer: boolean
  maxPeers: number
  /** Whether an address that came from wherever may be dialled. */
  mayDial: (address: string) => boolean
  /** Told of each peer that answers on this network; absent: the network is not asked. */
  onNeighbour?: ((info: PeerInfo) => void) | undefined
  /** What makes it reachable behind a router; absent: it only dials, and is dialled, directly. */
  nat?: Nat
}

export type RowanPeer = Libp2p<{
  dht: KadDHT
  identify: ReturnType<ReturnType<typeof identify>>
  identifyPush: ReturnType<ReturnType<typeof identifyPush>>
  ping: ReturnType<ReturnType<typeof ping>>
}>

/** A month: peers are remembered while they are connected however long that is (libp2p forgets addresses after 1 h). */
const PEER_AGE_MS = 30 * 24 * 3_600_000

const ADDRESS_VERIFICATION_MS = 3_600_000

/** A whole neighbourhood may come through one NAT or run on one host; libp2p's 5 connections a second cut it off. */
const INBOUND_CONNECTIONS_A_SECOND = 200
const MAX_PENDING_INBOUND = 100

/** What one stream may hold unsent before it is cut; the serving side stops itself long before. */
const MAX_WRITE_BUFFER_BYTES = 64 * 1024 * 1024

/** Yamux with rowan's windows, gathered updates and eager streams, under an id of its own: both ends must start from the same window. */
export function rowanMuxer() {
  const factory = yamux({
    streamOptions: {
      initialStreamWindowSize: INITIAL_STREAM_WINDOW_BYTES,
      maxStreamWindowSize: MAX_STREAM_WINDOW_BYTES,
      // a paused reader may still receive the whole window
      maxReadBufferLength: MAX_STREAM_WINDOW_BYTES + INITIAL_STREAM_WINDOW_BYTES,
      maxWriteBufferLength: MAX_WRITE_BUFFER_BYTES
    }
  })
  return () => {
    const muxers = factory()
    return {
      protocol: PROTOCOL.muxer,
      createStreamMuxer: (connection: MessageStream) => eager(gatherWindowUpdates(muxers.createStreamMuxer(connection)))
    }
  }
}

/**
 * Starts the peer: it listens when this returns.
 *
 * @throws LISTEN_FAILED when none of the addresses can be had
 */
export async function startPeer(settings: PeerSettings): Promise<RowanPeer> {
  const { nat } = settings
  try {
    return (await createLibp2p({
      privateKey: settings.privateKey,
      datastore: new PeerDatastore(),
      addresses: {
        listen: settings.listen,
        announce: settings.announce,
        // asking others to dial costs them something
        addressVerificationTTL: ADDRESS_VERIFICATION_MS,
        ...(nat === undefined ? {} : { announceFilter: nat.announceFilter })
      },
      transports: [tcp(), ...(nat === undefined ? [] : [nat.transport])],
      connectionEncrypters: [rowanNoise()],
      streamMuxers: [rowanMuxer()],
      ...(settings.onNeighbour === undefined ? {} : { peerDiscovery: [askNetwork(settings.onNeighbour)] }),
      connectionManager: {
        maxConnections: settings.maxPeers,
        inboundConnectionThreshold: INBOUND_CONNECTIONS_A_SECOND,
        maxIncomingPendingConnections: MAX_PENDING_INBOUND
      },
      // the DHT and identify pass on whatever addresses they are told; every dial comes by here
      connectionGater: { ...nat?.gater, denyDialMultiaddr: address => !settings.mayDial(address.toString()) },
      // it opens a stream every ten seconds to every peer; the swarm measures its own round trips
      connectionMonitor: { enabled: false },
      peerStore: { maxAddressAge: PEER_AGE_MS, maxPeerAge: PEER_AGE_MS },
      services: {
        identify: identify(),
        // tells the connected peers when this one becomes a DHT server
        identifyPush: identifyPush(),
        ping: ping(),
        dht: kadDHT({
          protocol: PROTOCOL.dht,
          datastorePrefix: DHT_PREFIX,
          kBucketSize: HOLDERS_PER_KEY,
          clientMode: !settings.dhtServer,
          // private addresses stay: a grid may live on one LAN
          peerInfoMapper: passthroughMapper,
          // a peer that is alone answers itself at once instead of waiting for somebody
          allowQueryWithZeroPeers: true,
          initialQuerySelfInterval: 100
        }),
        ...(nat === undefined ? {} : { nat: nat.service })
      }
    })) as RowanPeer
  } catch (error) {
    throw listenFailed(error, settings.listen)
  }
}
