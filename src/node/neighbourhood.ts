/**
 * Where this peer may knock.
 *
 * Everybody tells addresses: holders, replicas, the DHT's peers of other peers, and each peer of itself. Were all of them
 * dialled, anybody on the Internet could make this peer call its owner's printer. So an address is dialled only if this
 * process has met somebody at least as closely (directory/addresses.ts), or if it was named by its owner or is one of
 * those that served before. What was met counts until the process ends: a LAN whose peers were all lost for a moment
 * must be able to come together again.
 */
import { mayDial, REACH, type Reach, reachMet } from '../directory/addresses.ts'

export class Neighbourhood {
  #nearest: Reach = REACH.public
  /** Without the peer's id at the end; as many as were called by name, which config and join.ts bound. */
  readonly #named = new Set<string>()

  /** Somebody is connected, from or at this address. */
  met(remoteAddress: string): void {
    this.#nearest = Math.max(this.#nearest, reachMet(remoteAddress)) as Reach
  }

  /** These may be dialled whatever they are. */
  name(addresses: readonly string[]): void {
    for (const address of addresses) this.#named.add(withoutPeer(address))
  }

  mayDial(address: string): boolean {
    return mayDial(address, this.#nearest) || this.#named.has(withoutPeer(address))
  }
}

function withoutPeer(address: string): string {
  return address.replace(/\/p2p\/[^/]+$/, '')
}
