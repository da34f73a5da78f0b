/**
 * A publisher's daemon as far as collection goes: it polls every version, and lets the real policy judge at once.
 *
 * Stands in for sharer-count.ts, which asks over the wire: who is asked is the same (the census of holders with those
 * that are missed, itself, and replicas), with the real `MissingPeers`. It may be switched off for a while, and its clock
 * may be set meanwhile; what it knows of a version survives that.
 */

import { REPLICAS_ASKED } from '../src/directory/limits.ts'
import { MissingPeers } from '../src/directory/missing-peers.ts'
import { jittered, takeRandom } from '../src/directory/sampling.ts'
import type { Random } from '../src/environment.ts'
import {
  type CollectionSettings,
  type CollectionState,
  newCollectionState,
  observe,
  type Poll,
  type PollWitness,
  paused
} from '../src/release/collection-policy.ts'
import { judge } from '../src/release/collection-verdict.ts'
import type { Agenda } from './agenda.ts'
import { BEGINNING_MS, type Network, type Said } from './network.ts'

const MAX_POLL_EVERY_MS = 20 * 60_000
const POLL_JITTER = 0.1

interface Version {
  release: string
  state: CollectionState
  /** When it was polled last, by this daemon's monotonic clock. */
  polledMs: number | undefined
}

/** What decides; a test of the checkers has one that errs. */
export interface Policy {
  observe: typeof observe
  paused: typeof paused
  judge: typeof judge
}

export const REAL_POLICY: Policy = { observe, paused, judge }

/** What may be watched from outside. */
export interface PublisherEvents {
  polled(release: string, state: CollectionState, poll: Poll): void
  removed(release: string): void
}

export class Publisher {
  readonly peer: string
  readonly #network: Network
  readonly #agenda: Agenda<() => void>
  readonly #random: Random
  readonly #replicas: () => readonly string[]
  readonly #events: PublisherEvents
  readonly #policy: Policy
  readonly #settings: CollectionSettings
  readonly #versions: Version[]
  #missing = new MissingPeers()
  #isOn = true
  #clockErrorMs = 0
  #stoppedWallMs = 0

  constructor(
    components: {
      network: Network
      agenda: Agenda<() => void>
      random: Random
      replicas: () => readonly string[]
      events: PublisherEvents
      policy: Policy
    },
    settings: CollectionSettings & { peer: string; releases: readonly string[] }
  ) {
    this.#network = components.network
    this.#agenda = components.agenda
    this.#random = components.random
    this.#replicas = components.replicas
    this.#events = components.events
    this.#policy = components.policy
    this.#settings = settings
    this.peer = settings.peer
    this.#versions = settings.releases.map(release => ({ release, state: newCollectionState(), polledMs: undefined }))
    for (const version of this.#versions) this.#pollLater(version, this.#everyMs * this.#random.unit())
  }

  /** Its computer is off, and at `wake` its clock says what it says. */
  sleep(): void {
    this.#isOn = false
    this.#stoppedWallMs = this.#wallMs
  }

  wake(clockErrorMs: number): void {
    this.#clockErrorMs = clockErrorMs
    const pauseMs = this.#wallMs - this.#stoppedWallMs
    this.#missing = new MissingPeers()
    for (const version of this.#versions) {
      version.state = this.#policy.paused(version.state, pauseMs >= 0 ? pauseMs : undefined)
      version.polledMs = undefined
    }
    this.#isOn = true
  }

  get #wallMs(): number {
    return BEGINNING_MS + this.#agenda.now + this.#clockErrorMs
  }

  get #everyMs(): number {
    return Math.min(this.#settings.runningTtlMs / 3, MAX_POLL_EVERY_MS)
  }

  #pollLater(version: Version, delayMs: number): void {
    this.#agenda.at(this.#agenda.now + delayMs, () => {
      if (this.#isOn && this.#isRemoved(version)) return
      this.#pollLater(version, jittered(this.#everyMs, POLL_JITTER, this.#random))
    })
  }

  #isRemoved(version: Version): boolean {
    const { now } = this.#agenda
    const poll = this.#poll(version.release, now)
    const elapsedMs = version.polledMs === undefined ? 0 : now - version.polledMs
    version.polledMs = now
    version.state = this.#policy.observe(version.state, { poll, elapsedMs, pointedAt: false }, this.#settings)
    this.#events.polled(version.release, version.state, poll)
    const facts = { channels: [], rollouts: [], isOnly: false, machines: [], isReplicated: false }
    if (this.#policy.judge(facts, version.state, this.#settings).action === 'keep') return false
    this.#events.removed(version.release)
    return true
  }

  #poll(release: string, now: number): Poll {
    const holders = this.#network.census(release, peer => this.#missing.isGone(peer, now))
    const isHolder = new Set(holders.map(({ peer }) => peer))
    const others = this.#replicas().filter(peer => !isHolder.has(peer) && peer !== this.peer)
    const replicas = takeRandom(others, REPLICAS_ASKED, this.#random)
    if (!isHolder.has(this.peer)) replicas.unshift(this.peer)
    const witnesses: PollWitness[] = []
    for (const peer of [...isHolder, ...replicas]) {
      const role = isHolder.has(peer) ? 'holder' : 'replica'
      const said = this.#ask(peer, release, now)
      if (said === undefined) {
        if (role === 'holder') this.#missing.noAnswer(peer, now)
        continue
      }
      this.#missing.answered(peer)
      const { tenureMs, inUseForMs, hashes, all } = said
      witnesses.push({ peer, role, tenureMs, inUseForMs, ...(all && { hashes }) })
    }
    return { holdersAsked: holders.length, witnesses }
  }

  #ask(peer: string, release: string, now: number): Said | undefined {
    const options = { hashes: true }
    return peer === this.peer
      ? this.#network.known(peer, release, now, options)
      : this.#network.ask(peer, release, now, options)
  }
}
