/**
 * Neighbours: peers on the same network, found by asking it (mDNS, RFC 6762) instead of anybody far away.
 *
 * A home, a school or an office has one line to the outside and a fast network inside. Whoever answers the question is
 * called, and from then on counts as a replica of everything until it says what it lacks; that it is near, the
 * scheduler finds out by measuring. An answer may name only private addresses: a loopback address would be this host,
 * and a public one is nobody's neighbour.
 *
 * A neighbour may lie about its port; it could knock there itself.
 *
 * The question is asked only where this peer listens to its network at all, so a peer on loopback stays silent.
 *
 * Owns: who was found. Does not own: connections (libp2p), what a neighbour has (swarm).
 */
import type { PeerInfo } from '@libp2p/interface'
import { type MulticastDNSComponents, mdns } from '@libp2p/mdns'
import { multiaddr } from '@multiformats/multiaddr'
import { REACH, reachOf } from '../directory/addresses.ts'
import type { Log } from '../environment.ts'
import type { ReplicaHint } from '../swarm/known-replicas.ts'
import type { Neighbourhood } from './neighbourhood.ts'

/** rowan's own, so that peers of other libp2p networks are not called. */
const SERVICE = '_rowan._udp.local'
const ASK_MS = 10_000
/** Of one network; more are found through the directory. */
export const MAX_NEIGHBOURS = 64
const MAX_ADDRESSES = 8

export interface LanPeer {
  getConnections(): { remotePeer: { toString(): string } }[]
  dial(addresses: ReturnType<typeof multiaddr>[], options: { signal: AbortSignal }): Promise<unknown>
}

const DIAL_TIMEOUT_MS = 5_000

/** Whether a peer that listens here can have neighbours. */
export function hearsItsNetwork(listen: readonly string[]): boolean {
  return listen.some(address => {
    const reach = /^\/(ip4\/0\.0\.0\.0|ip6\/::)\//.test(address) ? REACH.private : reachOf(address)
    return reach === REACH.private
  })
}

/** Asks the network and answers it, as libp2p starts and stops discovery; whoever is found goes to `found`. */
export function askNetwork(found: (info: PeerInfo) => void) {
  return (components: MulticastDNSComponents) => {
    const discovery = mdns({ serviceTag: SERVICE, interval: ASK_MS })(components)
    discovery.addEventListener('peer', ({ detail }) => found(detail))
    return discovery
  }
}

export class Lan {
  readonly #neighbourhood: Neighbourhood
  readonly #log: Log
  readonly #found = new Map<string, string[]>()
  readonly #dialling = new Set<string>()
  #peer: LanPeer | undefined

  constructor(components: { neighbourhood: Neighbourhood; log: Log }) {
    this.#neighbourhood = components.neighbourhood
    this.#log = components.log
  }

  /** From now on neighbours are called. */
  start(peer: LanPeer): void {
    this.#peer = peer
    for (const id of this.#found.keys()) void this.#call(id)
  }

  /** Somebody answered; called again every few seconds. */
  found({ id, multiaddrs }: Pick<PeerInfo, 'id' | 'multiaddrs'>): void {
    const peer = id.toString()
    const addresses = multiaddrs
      .map(String)
      .filter(address => reachOf(address) === REACH.private)
      .slice(0, MAX_ADDRESSES)
    if (addresses.length === 0) return
    if (!this.#found.has(peer) && this.#found.size >= MAX_NEIGHBOURS && !this.#forgetOne()) return
    this.#found.set(peer, addresses)
    void this.#call(peer)
  }

  /** The neighbours that are connected: each may have any image. */
  replicas(): ReplicaHint[] {
    return [...this.#connected()].map(peer => ({ peer, addresses: this.#found.get(peer)!, complete: false }))
  }

  #connected(): Set<string> {
    const connected = new Set<string>()
    for (const { remotePeer } of this.#peer?.getConnections() ?? []) {
      if (this.#found.has(remotePeer.toString())) connected.add(remotePeer.toString())
    }
    return connected
  }

  /** Room for a newcomer: one that is not connected goes. */
  #forgetOne(): boolean {
    const connected = this.#connected()
    const gone = [...this.#found.keys()].find(peer => !connected.has(peer))
    if (gone === undefined) return false
    this.#found.delete(gone)
    this.#neighbourhood.noLongerNear(gone)
    return true
  }

  async #call(peer: string): Promise<void> {
    if (this.#peer === undefined || this.#dialling.has(peer) || this.#connected().has(peer)) return
    const addresses = this.#found.get(peer)!
    this.#dialling.add(peer)
    try {
      this.#neighbourhood.near(peer, addresses)
      const named = addresses.map(address => multiaddr(`${address.replace(/\/p2p\/[^/]+$/, '')}/p2p/${peer}`))
      await this.#peer.dial(named, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
      this.#log.info('a neighbour was found on this network', { peer })
    } catch (error) {
      this.#log.debug('a neighbour does not answer', { peer, error: String(error) })
    } finally {
      this.#dialling.delete(peer)
    }
  }
}
