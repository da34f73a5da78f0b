/**
 * What a swarm is made of, and what it tells about its peers.
 */

import type { Connection, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Clock, Log, Random } from '../environment.ts'
import type { Images } from '../store/images.ts'
import type { Pool } from '../store/pool.ts'
import type { BlockServerComponents } from './block-server.ts'
import type { DialNetwork } from './dialer.ts'
import type { FetchEngineComponents } from './fetch-engine.ts'
import type { RecordExchange } from './greeting.ts'
import type { ReplicaHint } from './known-replicas.ts'
import type { TrafficLimits } from './traffic-limits.ts'
import type { WebNetwork } from './web-network.ts'

export interface SwarmComponents {
  /** The libp2p peer. */
  network: DialNetwork &
    BlockServerComponents['libp2p'] & { peerId: PeerId; getConnections(peer?: PeerId): Connection[] }
  images: Images
  pool: Pool
  findReplicas: (image: string, options: { signal?: AbortSignal }) => Promise<ReplicaHint[]>
  /** Peers on this network, each of which may have any image; none if absent. */
  neighbours?: () => ReplicaHint[]
  /** Exchanges signed records in the greeting; none if absent. */
  records?: RecordExchange
  /** Boot profiles pass with the first answer about an image; none if absent. */
  profiles?: ProfileExchange
  /** Which announced addresses may be called; all of them if absent. */
  mayDial?: (address: Multiaddr) => boolean
  /** Whether an address is on the local network, where traffic costs nobody anything; none is if absent. */
  isNear?: (address: Multiaddr) => boolean
  /** Whether this peer has an image to give it to others (published, replicated); so are all if absent. */
  isDonated?: (image: string) => boolean
  /** Remembers peers that gave wrong bytes across restarts. */
  liars?: FetchEngineComponents['liars']
  /** Web seeds of an image, and the way to them; none if absent. */
  web?: { network: WebNetwork; seedsOf: (image: string) => string[] } | undefined
  clock: Clock
  random: Random
  log: Log
}

/** Boot profiles go out and come in with the first answer about an image. */
export interface ProfileExchange {
  /** The encoded profile that a requester of this image is given. */
  toShare(image: string): Uint8Array | undefined
  /** Judges and keeps what a peer sent. Rejects with a RowanError when it is refused. */
  heard(image: string, peer: string, profile: Uint8Array, blocks: number): Promise<void>
  /** This peer sent something wrong: what it has said counts no more. */
  disown(peer: string): void
}

export interface SwarmSettings {
  maxPeers: number
  /** Unlimited where absent; see `limit`. */
  limits?: Partial<TrafficLimits> | undefined
}

export interface SwarmPeer {
  peer: string
  /** Ids of the images that it serves to this peer. */
  images: string[]
  rttMs: number | undefined
  rateBytesPerSecond: number | undefined
  /** Requests that it has not answered. */
  outstanding: number
  /** What it was given by this peer. */
  servedBytes: number
}
