/**
 * Where this peer may knock.
 *
 * Everybody tells addresses: holders, replicas, the DHT's peers of other peers, and each peer of itself. Were all of them
 * dialled, anybody on the Internet could make this peer call its owner's printer. So an address is dialled only if this
 * process has met somebody at least as closely (directory/addresses.ts), or if it was named by its owner or is one of
 * those that served before. What was met counts until the process ends: a LAN whose peers were all lost for a moment
 * must be able to come together again. Whoever answers on this peer's own network (lan.ts) is near by that alone.
 */
import { mayDial, REACH, type Reach, reachMet } from '../directory/addresses.ts'

export class Neighbourhood {
  #nearest: Reach = REACH.public
  /** Without the peer's id at the end; as many as were called by name, which config and join.ts bound. */
  readonly #named = new Set<string>()
  /** Addresses of the neighbours that lan.ts knows, which bounds them. */
  readonly #near = new Map<string, ReadonlySet<string>>()

  /** Somebody is connected, from or at this address. */
  met(remoteAddress: string): void {
    this.#nearest = Math.max(this.#nearest, reachMet(remoteAddress)) as Reach
  }

  /** These may be dialled whatever they are. */
  name(addresses: readonly string[]): void {
    for (const address of addresses) this.#named.add(withoutPeer(address))
  }

  /** A peer of this network said that it listens here; replaces what it said before. */
  near(peer: string, addresses: readonly string[]): void {
    this.#near.set(peer, new Set(addresses.map(withoutPeer)))
  }

  /** A neighbour was given up. */
  noLongerNear(peer: string): void {
    this.#near.delete(peer)
  }

  mayDial(address: string): boolean {
    const bare = withoutPeer(address)
    if (mayDial(address, this.#nearest) || this.#named.has(bare)) return true
    return [...this.#near.values()].some(addresses => addresses.has(bare))
  }
}

function withoutPeer(address: string): string {
  return address.replace(/\/p2p\/[^/]+$/, '')
}
