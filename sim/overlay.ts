/**
 * Kademlia as the directory sees it: peers with places, and the closest to a key by XOR distance.
 *
 * Lookups are taken to be right and immediate; what is simulated is who the closest are while peers come and go. One who
 * counts hears of the departed too (`census`): the others name them until they are known to be gone.
 */

import { HOLDERS_PER_KEY } from '../src/cluster.ts'
import { compareDistance } from '../src/directory/key.ts'
import type { CloserPeer } from '../src/directory/routing.ts'
import type { Random } from '../src/environment.ts'

interface SimulatedPeer extends CloserPeer {
  place: Uint8Array
  isAlive: boolean
}

/** All that were ever there and are still spoken of, as one key sees them: nearest first. */
interface Ring {
  place: Uint8Array
  peers: SimulatedPeer[]
  /** Undefined after somebody came or went. */
  closest: readonly CloserPeer[] | undefined
  /** As it was before that. */
  before: readonly CloserPeer[]
}

export class Overlay {
  readonly #random: Random
  readonly #peers = new Map<string, SimulatedPeer>()
  readonly #rings = new Map<string, Ring>()
  readonly #alive = new Set<string>()
  #aliveList: readonly string[] | undefined
  #joined = 0

  constructor(random: Random, count: number) {
    this.#random = random
    for (let i = 0; i < count; i++) this.join()
  }

  /** Those that are there. */
  get peers(): readonly string[] {
    this.#aliveList ??= [...this.#alive]
    return this.#aliveList
  }

  join(): string {
    const name = `peer-${this.#joined++}`
    const peer = { peer: name, addresses: [], place: this.#random.bytes(32), isAlive: true }
    this.#peers.set(name, peer)
    this.#alive.add(name)
    for (const ring of this.#rings.values()) ring.peers.splice(placeIn(ring, peer.place), 0, peer)
    this.#changed()
    return name
  }

  leave(peer: string): void {
    this.#set(peer, false)
  }

  /** One that left is there again, under the same name and at the same place. */
  comeBack(peer: string): void {
    this.#set(peer, true)
  }

  isAlive(peer: string): boolean {
    return this.#peers.get(peer)?.isAlive === true
  }

  /** The closest peers, nearest first; the same list until one of them comes or goes. */
  closest(name: string, place: Uint8Array): readonly CloserPeer[] {
    const ring = this.#ring(name, place)
    if (ring.closest === undefined) {
      const found: CloserPeer[] = []
      for (const peer of ring.peers) {
        if (peer.isAlive) found.push(peer)
        if (found.length === HOLDERS_PER_KEY) break
      }
      const isSame = found.length === ring.before.length && found.every((peer, i) => peer === ring.before[i])
      ring.closest = isSame ? ring.before : found
      ring.before = ring.closest
    }
    return ring.closest
  }

  /** The same with those that have left, unless `isGone`. */
  census(name: string, place: Uint8Array, isGone: (peer: string) => boolean): readonly CloserPeer[] {
    const found: CloserPeer[] = []
    for (const peer of this.#ring(name, place).peers) {
      if (peer.isAlive || !isGone(peer.peer)) found.push(peer)
      if (found.length === HOLDERS_PER_KEY) break
    }
    return found
  }

  #set(name: string, isAlive: boolean): void {
    const peer = this.#peers.get(name)
    if (peer === undefined) throw new Error(`there is no ${name}`)
    peer.isAlive = isAlive
    if (isAlive) this.#alive.add(name)
    else this.#alive.delete(name)
    this.#changed()
  }

  #changed(): void {
    this.#aliveList = undefined
    for (const ring of this.#rings.values()) ring.closest = undefined
  }

  #ring(name: string, place: Uint8Array): Ring {
    let ring = this.#rings.get(name)
    if (ring === undefined) {
      const peers = [...this.#peers.values()].toSorted((a, b) => compareDistance(place, a.place, b.place))
      ring = { place, peers, closest: undefined, before: [] }
      this.#rings.set(name, ring)
    }
    return ring
  }
}

/** Where a newcomer belongs in a ring. */
function placeIn({ peers, place }: Ring, newcomer: Uint8Array): number {
  let from = 0
  let to = peers.length
  while (from < to) {
    const middle = (from + to) >> 1
    if (compareDistance(place, peers[middle]!.place, newcomer) < 0) from = middle + 1
    else to = middle
  }
  return from
}
