/**
 * Peers that hold records, and the wire between them: what a put or a question does, and what comes back.
 *
 * Each peer has the real `Holder`, made when something first reaches it, and a clock of its own that may be wrong. What
 * is modelled: a message is lost by chance, arrives at once otherwise, and the dead do not answer. A peer that was away
 * has what it had before (its store). It stays away for under TENURE_GAP_MS or for over TENURE_CONTACT_GAP_MS, so that
 * what the store says of its tenure and what the table itself notices come to the same.
 *
 * A liar has a holder too; what it says of what that knows is its own affair (conspiracy.ts).
 */

import type { LeaseEntry } from '../src/directory/held-leases.ts'
import { Holder } from '../src/directory/holder.ts'
import type { PutOutcome } from '../src/directory/holder-types.ts'
import { DEFAULT_HOLDER_BYTES } from '../src/directory/limits.ts'
import type { CloserPeer } from '../src/directory/routing.ts'
import type { Random } from '../src/environment.ts'
import { type Hash, sha256 } from '../src/image/hash.ts'
import type { Overlay } from './overlay.ts'

/** A moment in 2026, when simulations begin by the wall clock. */
export const BEGINNING_MS = 1_795_000_000_000

/** What a holder says of a release. */
export interface Said {
  inUseForMs: number
  tenureMs: number
  threshold: number
  /** Of the sharers that it knows; none if it was not asked for them. */
  hashes: readonly number[]
  /** It knows no others. */
  all: boolean
}

/** Those who do not do as the protocol says. */
export interface Liars {
  has(peer: string): boolean
  /** What one of them says in place of what it knows. */
  say(known: Said, now: number): Said
  /** One of them was told this. */
  hear(entry: LeaseEntry): void
}

export interface Weather {
  /** Part of all messages that get no answer. */
  lossRate: number
  /** Part of the peers whose clock is a day off; that of the others, by up to CLOCK_ERROR_MS. */
  wrongClockRate: number
}

const CLOCK_ERROR_MS = 2 * 60_000
const DAY_MS = 86_400_000

export class Network {
  readonly overlay: Overlay
  readonly #random: Random
  readonly #weather: Weather
  readonly #liars: Liars | undefined
  readonly #peers = new Map<string, { holder: Holder; clockErrorMs: number }>()
  readonly #places = new Map<string, Hash>()

  constructor(components: { overlay: Overlay; random: Random; liars?: Liars }, weather: Weather) {
    this.overlay = components.overlay
    this.#random = components.random
    this.#liars = components.liars
    this.#weather = weather
  }

  /** The closest to a release of those that are there, as a sharer finds them. */
  circle(release: string): readonly CloserPeer[] {
    return this.overlay.closest(release, this.#place(release))
  }

  /** As one who counts finds them. */
  census(release: string, isGone: (peer: string) => boolean): readonly CloserPeer[] {
    return this.overlay.census(release, this.#place(release), isGone)
  }

  isLiar(peer: string): boolean {
    return this.#liars?.has(peer) === true
  }

  /** Undefined: no answer. */
  put(peer: string, entry: LeaseEntry, now: number): PutOutcome | undefined {
    if (!this.#isReached(peer)) return undefined
    if (this.isLiar(peer)) this.#liars!.hear(entry)
    const { holder, clockErrorMs } = this.#peer(peer)
    return holder.put(entry, BEGINNING_MS + now + clockErrorMs).outcome
  }

  /** Undefined: no answer. */
  ask(peer: string, release: string, now: number, options = { hashes: false }): Said | undefined {
    if (!this.#isReached(peer)) return undefined
    const known = this.known(peer, release, now, options)
    return this.isLiar(peer) ? this.#liars!.say(known, now) : known
  }

  /** What a peer knows, without a wire between. */
  known(peer: string, release: string, now: number, options: { hashes: boolean }): Said {
    const { holder, clockErrorMs } = this.#peer(peer)
    const wallMs = BEGINNING_MS + now + clockErrorMs
    const { inUseUntilMs, tenureMs, ...found } = holder.getSharers(release, wallMs, options).found
    return { ...found, inUseForMs: Math.max(0, inUseUntilMs - wallMs), tenureMs: Math.max(0, tenureMs) }
  }

  #isReached(peer: string): boolean {
    return this.overlay.isAlive(peer) && this.#random.unit() >= this.#weather.lossRate
  }

  #peer(name: string) {
    let peer = this.#peers.get(name)
    if (peer === undefined) {
      const { unit } = this.#random
      const isWrong = unit() < this.#weather.wrongClockRate
      const clockErrorMs = isWrong ? (unit() < 0.5 ? -DAY_MS : DAY_MS) : Math.floor((2 * unit() - 1) * CLOCK_ERROR_MS)
      peer = { holder: new Holder({ random: this.#random }, { quotaBytes: DEFAULT_HOLDER_BYTES }), clockErrorMs }
      this.#peers.set(name, peer)
    }
    return peer
  }

  #place(release: string): Hash {
    let place = this.#places.get(release)
    if (place === undefined) {
      place = sha256(Buffer.from(release))
      this.#places.set(release, place)
    }
    return place
  }
}
