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
import type { CensusOptions, CloserPeer, Routing } from './routing.ts'

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

interface Search {
  answered: Set<string>
  addresses: Map<string, string[]>
  /** By how many peers each was named. */
  namedBy: Map<string, number>
  /** Those that did not answer when they were asked. */
  failed: Set<string>
}

/** So many must have named a peer that does not answer, before it counts as one of the closest. */
const NAMED_BY = 2
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
    const { answered, addresses } = await this.#search(key, options)
    return this.#closest([...answered], addresses, key)
  }

  async census(key: Uint8Array, options: CensusOptions): Promise<CloserPeer[]> {
    const { answered, addresses, namedBy, failed } = await this.#search(key, options)
    // One alone could invent peers that never answer, and so keep anybody from reaching a majority. But with nobody, or
    // one, to ask, those that this peer itself knew count too.
    const named = [...namedBy].filter(([, by]) => by >= Math.min(NAMED_BY, answered.size)).map(([peer]) => peer)
    const known = new Set(answered.size < NAMED_BY ? [...named, ...failed] : named)
    const silent = [...known].filter(peer => !answered.has(peer) && !options.isGone(peer))
    return this.#closest([...answered, ...silent], addresses, key)
  }

  #closest(peers: string[], addresses: ReadonlyMap<string, string[]>, key: Uint8Array): CloserPeer[] {
    const { peer: self } = this.#components
    const found = peers.filter(peer => peer !== self).map(peer => ({ peer, addresses: addresses.get(peer) ?? [] }))
    if (this.selfCanServe()) found.push({ peer: self, addresses: this.#components.addresses() })
    return closest(found, placeOfKey(key))
  }

  async #search(key: Uint8Array, options: { signal: AbortSignal }): Promise<Search> {
    const { dht, log } = this.#components
    const addresses = new Map<string, string[]>()
    const answered = new Set<string>()
    const namedBy = new Map<string, number>()
    const failed = new Set<string>()
    try {
      for await (const event of dht.getClosestPeers(key, options)) {
        if (event.name === 'PEER_RESPONSE') {
          noteAddresses(addresses, event.closer ?? [])
          for (const { id } of event.closer ?? []) {
            const peer = id.toString()
            if (namedBy.has(peer) || namedBy.size < MAX_PEERS_SEEN) namedBy.set(peer, (namedBy.get(peer) ?? 0) + 1)
          }
          if (event.from !== undefined && answered.size < MAX_PEERS_SEEN) answered.add(event.from.toString())
        } else if (event.name === 'QUERY_ERROR') {
          if (event.from !== undefined && failed.size < MAX_PEERS_SEEN) failed.add(event.from.toString())
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
    return { answered, addresses, namedBy, failed }
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
