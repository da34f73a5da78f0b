/**
 * Finding the network, and staying in it.
 *
 * Calls the bootstrap peers and those remembered from before, all at once, and calls again (waiting longer each time)
 * whenever nobody is connected. Peers that were connected are remembered in the catalog, so that a restart does not
 * depend on the bootstrap peers being alive.
 *
 * Owns: the table of remembered peers. Does not own: connections (libp2p's connection manager prunes them).
 */
import type { KadDHT } from '@libp2p/kad-dht'
import type { Multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import { mayDial, reachMet } from '../directory/addresses.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'
import { namesPeer, parseAddress } from './given-addresses.ts'
import type { Neighbourhood } from './neighbourhood.ts'
import type { RowanPeer } from './peer.ts'

const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 30_000
const DIAL_TIMEOUT_MS = 10_000
/** How often it is checked that somebody is connected, and who is, for the next start. */
const CHECK_MS = 15_000
const LOOK_AROUND_MS = 10_000
const MAX_REMEMBERED = 64
const MAX_ADDRESSES = 8
/** How long a question waits for the first peer after a start. */
const JOIN_PATIENCE_MS = 3_000
const POLL_MS = 10
/** A new connection has identified itself and is in the routing table after two round trips. */
const INTRODUCTION_MS = 1_500

interface RememberedPeer {
  addresses: string[]
  lastSeenMs: number
}

export interface NetworkComponents {
  peer: RowanPeer
  neighbourhood: Neighbourhood
  catalog: Catalog
  clock: Clock
  log: Log
}

export class Network {
  readonly #components: NetworkComponents
  readonly #bootstrap: Multiaddr[]
  readonly #remembered: Table<RememberedPeer>
  readonly #stopping = new AbortController()
  #retryMs = FIRST_RETRY_MS
  #timer: Timer | undefined
  #seeking = false
  #lastConnectedMs = Number.NEGATIVE_INFINITY
  #hasLookedAround = false

  /** @throws CONFIG_INVALID as `parseAddress` */
  constructor(components: NetworkComponents, settings: { bootstrap: string[] }) {
    this.#components = components
    this.#bootstrap = settings.bootstrap.map(text => parseAddress(text, 'bootstrap'))
    this.#remembered = components.catalog.table('peers', jsonCodec<RememberedPeer>())
  }

  /** Begins to look for peers; returns at once, since a peer may well be alone. */
  start(): void {
    this.#components.peer.addEventListener('connection:open', this.#onConnected)
    this.#check()
  }

  async stop(): Promise<void> {
    this.#timer?.cancel()
    this.#stopping.abort()
    this.#components.peer.removeEventListener('connection:open', this.#onConnected)
    await this.#remember()
  }

  /**
   * Whether a DHT peer is known. Waits for the first one as long as one is being called, or is connected and still
   * introducing itself; a peer that nobody answers is told so at once.
   */
  async joined(signal: AbortSignal): Promise<boolean> {
    const { peer, clock } = this.#components
    const deadline = clock.monotonicMs() + JOIN_PATIENCE_MS
    while (routingTableSize(peer.services.dht) === 0) {
      const mayCome = this.#seeking || clock.monotonicMs() - this.#lastConnectedMs < INTRODUCTION_MS
      if (!mayCome || signal.aborted || clock.monotonicMs() > deadline) return false
      await new Promise<void>(resolve => clock.after(POLL_MS, resolve))
    }
    return true
  }

  readonly #onConnected = (): void => {
    this.#lastConnectedMs = this.#components.clock.monotonicMs()
  }

  #check(): void {
    const lonely = routingTableSize(this.#components.peer.services.dht) === 0
    if (lonely) void this.#seek()
    else this.#remember().catch(error => this.#components.log.warn('cannot remember peers', { error }))
    if (lonely) this.#hasLookedAround = false
    else if (!this.#hasLookedAround) void this.#lookAround()
    if (!lonely) this.#retryMs = FIRST_RETRY_MS
    const delayMs = lonely ? this.#retryMs : CHECK_MS
    if (lonely) this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS)
    this.#timer = this.#components.clock.after(delayMs, () => {
      if (!this.#stopping.signal.aborted) this.#check()
    })
  }

  /**
   * The first look at the network: who is near. A first search, for which somebody may wait, then knows more peers than the one that
   * was called, and these have shown that they answer the DHT's questions (see eager-streams.ts).
   */
  async #lookAround(): Promise<void> {
    const { peer, log } = this.#components
    this.#hasLookedAround = true
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(LOOK_AROUND_MS)])
    let seen = 0
    try {
      for await (const { name } of peer.services.dht.getClosestPeers(peer.peerId.toMultihash().bytes, { signal })) {
        if (name === 'PEER_RESPONSE') seen++
      }
    } catch (error) {
      log.debug('the first look around ended early', { seen, error: String(error) })
    }
  }

  async #seek(): Promise<void> {
    if (this.#seeking) return
    this.#seeking = true
    try {
      const remembered: Multiaddr[][] = []
      for await (const [, { addresses }] of this.#remembered.entries())
        remembered.push(addresses.map(text => parseAddress(text, 'bootstrap')))
      const targets = [...this.#bootstrap.map(address => [address]), ...remembered]
      await Promise.all(targets.map(addresses => this.#call(addresses)))
    } catch (error) {
      this.#components.log.warn('looking for peers failed', { error: asRowanError(error).message })
    } finally {
      this.#seeking = false
    }
  }

  async #call(addresses: Multiaddr[]): Promise<void> {
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(DIAL_TIMEOUT_MS)])
    this.#components.neighbourhood.name(addresses.map(String))
    try {
      await this.#components.peer.dial(addresses, { signal })
    } catch (error) {
      this.#components.log.debug('a peer does not answer', { address: String(addresses[0]), error: String(error) })
    }
  }

  async #remember(): Promise<void> {
    const { peer, clock } = this.#components
    for (const connection of peer.getConnections().slice(0, MAX_REMEMBERED)) {
      if (!(await peer.peerStore.has(connection.remotePeer))) continue
      const known = await peer.peerStore.get(connection.remotePeer)
      // only those who answer the DHT's questions are of use at the next start
      if (!known.protocols.includes(PROTOCOL.dht)) continue
      const id = connection.remotePeer.toString()
      const met = reachMet(connection.remoteAddr.toString())
      // What it says of itself counts as far as it was met; the address that it was called at is proven.
      const isUsable = (address: string) => mayDial(address, met) || address === connection.remoteAddr.toString()
      const addresses = known.addresses
        .map(({ multiaddr }) => withPeer(multiaddr, id))
        .filter(isUsable)
        .slice(0, MAX_ADDRESSES)
      if (addresses.length > 0) await this.#remembered.put(id, { addresses, lastSeenMs: clock.now() })
    }
    await this.#forgetOldest()
  }

  async #forgetOldest(): Promise<void> {
    const all: [string, RememberedPeer][] = []
    for await (const entry of this.#remembered.entries()) all.push(entry)
    all.sort((a, b) => b[1].lastSeenMs - a[1].lastSeenMs)
    for (const [id] of all.slice(MAX_REMEMBERED)) await this.#remembered.delete(id)
  }
}

function withPeer(address: Multiaddr, id: string): string {
  // One through a relay has a peer in it, which is not this one.
  return namesPeer(address) ? address.toString() : `${address}/p2p/${id}`
}

/** kad-dht has its routing table on the object, if not in the public type. */
export function routingTableSize(dht: KadDHT): number {
  return 'routingTable' in dht ? (dht.routingTable as { size: number }).size : 0
}
