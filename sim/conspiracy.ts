/**
 * Peers that lie, all of one mind: what they want is that a version which is in use looks unused.
 *
 * They may behave at first, so that the publisher hears of sharers from them too. Then they say that nobody uses it and
 * that they have known it for a year, and tell every sharer that its lease may rest. What they heard they put again later, leases that were given back and old tombstones alike.
 * They grind keys with small hashes, fill the holders' tables with leases of these, and let all lapse together, so that
 * honest leases were pushed out. For a while they may cry that somebody does use the version, to confuse what the
 * publisher remembers. What they cannot do is sign for others.
 */

import type { LeaseEntry } from '../src/directory/held-leases.ts'
import { MAX_LEASES_PER_KEY } from '../src/directory/limits.ts'
import { takeRandom } from '../src/directory/sampling.ts'
import type { Random } from '../src/environment.ts'
import type { Agenda } from './agenda.ts'
import { BEGINNING_MS, type Liars, type Network, type Said } from './network.ts'

/** A span of simulated time. */
export interface Span {
  fromMs: number
  untilMs: number
}

export interface Scheme {
  /** Part of the peers that lie. */
  rate: number
  /** So many of the closest to each version, when all begins, lie whatever the rate. */
  closest?: number
  /** Until then they say what they know. */
  turnMs: number
  /** How often something old is put again; undefined: never. */
  replayEveryMs?: number
  /** The tables of one version, drawn by lot, are filled at `fromMs`, and all of it lapses at `untilMs`. */
  floods: readonly Span[]
  /** When all liars say that it is in use, for as long as a lease can hold. */
  cries: readonly Span[]
}

const YEAR_MS = 365 * 86_400_000
/** More than a table holds, and with smaller hashes than anybody comes by honestly. */
const GROUND_KEYS = MAX_LEASES_PER_KEY + 76
const GROUND_BELOW = 1e-7
/** The place of a sharer that nobody is. */
const INVENTED = 0.123
const HEARD_REMEMBERED = 400
/** Of leases, and of tombstones. */
const REPLAYED_AT_ONCE = 3

export class Conspiracy implements Liars {
  readonly #random: Random
  readonly #scheme: Scheme
  readonly #agenda: Agenda<() => void>
  readonly #isLiar = new Map<string, boolean>()
  readonly #leases: LeaseEntry[] = []
  readonly #tombstones: LeaseEntry[] = []
  #floods = 0

  constructor(components: { random: Random; agenda: Agenda<() => void> }, scheme: Scheme) {
    this.#random = components.random
    this.#agenda = components.agenda
    this.#scheme = scheme
  }

  has(peer: string): boolean {
    let isLiar = this.#isLiar.get(peer)
    if (isLiar === undefined) {
      isLiar = this.#random.unit() < this.#scheme.rate
      this.#isLiar.set(peer, isLiar)
    }
    return isLiar
  }

  /** The publisher is not one of them. */
  trust(peer: string): void {
    this.#isLiar.set(peer, false)
  }

  say(known: Said, now: number): Said {
    if (now < this.#scheme.turnMs) return known
    const cries = this.#scheme.cries.some(({ fromMs, untilMs }) => fromMs <= now && now < untilMs)
    const lie = { tenureMs: YEAR_MS, threshold: GROUND_BELOW, all: true }
    return cries ? { ...lie, inUseForMs: YEAR_MS, hashes: [INVENTED] } : { ...lie, inUseForMs: 0, hashes: [] }
  }

  hear(entry: LeaseEntry): void {
    if (this.#scheme.replayEveryMs === undefined) return
    const heard = entry.givenBack ? this.#tombstones : this.#leases
    if (heard.length < HEARD_REMEMBERED) heard.push(entry)
    else heard[Math.floor(this.#random.unit() * HEARD_REMEMBERED)] = entry
  }

  /** Sets to work, against these releases. */
  start(network: Network, releases: readonly string[], publisher: string): void {
    const { replayEveryMs, floods, closest = 0 } = this.#scheme
    for (const release of releases) {
      for (const { peer } of network.circle(release).slice(0, closest)) {
        if (peer !== publisher) this.#isLiar.set(peer, true)
      }
    }
    if (replayEveryMs !== undefined) this.#replayLater(network, replayEveryMs, publisher)
    for (const flood of floods) {
      this.#agenda.at(flood.fromMs, () => {
        for (const release of takeRandom(releases, 1, this.#random)) this.#flood(network, release, flood.untilMs)
      })
    }
  }

  #replayLater(network: Network, everyMs: number, publisher: string): void {
    this.#agenda.at(this.#agenda.now + everyMs, () => {
      const old = [this.#leases, this.#tombstones].flatMap(heard => takeRandom(heard, REPLAYED_AT_ONCE, this.#random))
      for (const entry of old) {
        for (const { peer } of network.circle(entry.key)) network.put(peer, entry, this.#agenda.now)
        network.put(publisher, entry, this.#agenda.now)
      }
      this.#replayLater(network, everyMs, publisher)
    })
  }

  #flood(network: Network, key: string, untilMs: number): void {
    const { now } = this.#agenda
    const issuedMs = BEGINNING_MS + now
    const times = { issuedMs, sequence: issuedMs, runningUntilMs: BEGINNING_MS + untilMs, keepUntilMs: 0 }
    const flood = this.#floods++
    const targets = network.circle(key).filter(({ peer }) => !this.has(peer))
    for (let i = 0; i < GROUND_KEYS; i++) {
      const hash = ((i + 0.5) / GROUND_KEYS) * GROUND_BELOW
      const entry = { table: 'sharers' as const, key, signer: `ground-${flood}-${i}`, hash, ...times, givenBack: false }
      for (const { peer } of targets) network.put(peer, entry, now)
    }
  }
}
