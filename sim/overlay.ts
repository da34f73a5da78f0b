/**
 * Kademlia as the directory sees it: peers with places, and the closest to a key by XOR distance.
 *
 * Lookups are taken to be right and immediate; what is simulated is who the closest are while peers come and go.
 */

import { HOLDERS_PER_KEY } from '../src/cluster.ts'
import { compareDistance } from '../src/directory/key.ts'
import type { CloserPeer } from '../src/directory/routing.ts'
import type { Random } from '../src/environment.ts'

interface SimulatedPeer extends CloserPeer {
  place: Uint8Array
}

export class Overlay {
  readonly #random: Random
  readonly #peers = new Map<string, SimulatedPeer>()
  readonly #closest = new Map<string, readonly CloserPeer[]>()
  #joined = 0

  constructor(random: Random, count: number) {
    this.#random = random
    for (let i = 0; i < count; i++) this.join()
  }

  get peers(): readonly string[] {
    return [...this.#peers.keys()]
  }

  join(): string {
    const peer = `peer-${this.#joined++}`
    this.#peers.set(peer, { peer, addresses: [], place: this.#random.bytes(32) })
    this.#closest.clear()
    return peer
  }

  leave(peer: string): void {
    this.#peers.delete(peer)
    this.#closest.clear()
  }

  isAlive(peer: string): boolean {
    return this.#peers.has(peer)
  }

  /** The closest peers, nearest first; the same list until somebody comes or goes. */
  closest(name: string, place: Uint8Array): readonly CloserPeer[] {
    let found = this.#closest.get(name)
    if (found === undefined) {
      found = [...this.#peers.values()]
        .toSorted((a, b) => compareDistance(place, a.place, b.place))
        .slice(0, HOLDERS_PER_KEY)
        .map(({ peer, addresses }) => ({ peer, addresses }))
      this.#closest.set(name, found)
    }
    return found
  }
}
