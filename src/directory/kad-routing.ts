/**
 * The peers closest to a key, by kad-dht.
 *
 * Only its routing is used; its records are not (see directory.ts). It never yields the asking peer, so that one is
 * put in by its distance. The peers are collected as they answer, so that a search that is cut short by dead peers'
 * time-outs still gives those that are alive.
 */

import { HOLDERS_PER_KEY } from '../cluster.ts'
import type { Log } from '../environment.ts'
import type { Hash } from '../image/hash.ts'
import { compareDistance, placeOfKey, placeOfPeer } from './key.ts'
import type { CloserPeer, Routing } from './routing.ts'

/** The part of kad-dht's events that is used here. */
interface QueryEvent {
  name: string
  from?: { toString(): string }
  peer?: unknown
  closer?: KadPeer[]
}
interface KadPeer {
  id: { toString(): string }
  multiaddrs: { toString(): string }[]
}

export interface KadRoutingComponents {
  dht: { getClosestPeers(key: Uint8Array, options: { signal: AbortSignal }): AsyncIterable<QueryEvent> }
  /** This peer's id. */
  peer: string
  addresses: () => string[]
  /** Whether other peers can count on this one as a holder. */
  canServe: () => boolean
  log: Log
}

/** Peers remembered during one search; far more than one ever meets. */
const MAX_PEERS_SEEN = 4096

export class KadRouting implements Routing {
  readonly #components: KadRoutingComponents

  constructor(components: KadRoutingComponents) {
    this.#components = components
  }

  selfCanServe(): boolean {
    return this.#components.canServe()
  }

  async closestPeers(key: Uint8Array, options: { signal: AbortSignal }): Promise<CloserPeer[]> {
    const { dht, log, peer: self } = this.#components
    const addresses = new Map<string, string[]>()
    const answered = new Set<string>()
    try {
      for await (const event of dht.getClosestPeers(key, options)) {
        if (event.name === 'PEER_RESPONSE') {
          noteAddresses(addresses, event.closer ?? [])
          if (event.from !== undefined && answered.size < MAX_PEERS_SEEN) answered.add(event.from.toString())
        } else if (event.name === 'FINAL_PEER') {
          // These have answered, so they are noted already; this event knows where they were reached.
          const peer = event.peer as KadPeer
          noteAddresses(addresses, [peer])
          answered.add(peer.id.toString())
        }
      }
    } catch (error) {
      log.debug('a search for the closest peers ended early', { found: answered.size, error: String(error) })
    }
    answered.delete(self)
    const found = [...answered].map(peer => ({ peer, addresses: addresses.get(peer) ?? [] }))
    if (this.selfCanServe()) found.push({ peer: self, addresses: this.#components.addresses() })
    return closest(found, placeOfKey(key))
  }
}

/** The HOLDERS_PER_KEY nearest to a place, nearest first. */
export function closest<P extends { peer: string }>(peers: readonly P[], place: Hash): P[] {
  return peers
    .map(peer => ({ peer, at: placeOfPeer(peer.peer) }))
    .toSorted((a, b) => compareDistance(place, a.at, b.at))
    .slice(0, HOLDERS_PER_KEY)
    .map(({ peer }) => peer)
}

function noteAddresses(addresses: Map<string, string[]>, peers: KadPeer[]): void {
  for (const { id, multiaddrs } of peers) {
    if (multiaddrs.length === 0 || addresses.size >= MAX_PEERS_SEEN) continue
    addresses.set(
      id.toString(),
      multiaddrs.map(address => address.toString())
    )
  }
}
