/**
 * A world in which versions are used, forgotten and collected, and checkers that know the truth about it.
 *
 * Peers come and go, holders and replicas among them; users run machines, switch them off, remove them; a publisher polls
 * and removes; some peers lie. The holders' tables, the users' plans and leases, and the policy of collection are the
 * real ones (network.ts, user.ts, publisher.ts). Everything follows from one seed and one `Weather` of numbers
 * (scenarios.ts), so a run can be repeated to the last message: see replay.ts.
 *
 * Two checkers watch. *Safety*: when a version is removed, nobody uses it; and how near it came to that, the longest that
 * a version in use was seen unused, as part of what would have removed it. *Liveness*: how long a version stayed after
 * its last use.
 */

import { takeRandom } from '../src/directory/sampling.ts'
import type { Random } from '../src/environment.ts'
import { type CollectionState, type Poll, windowMs } from '../src/release/collection-policy.ts'
import { Agenda } from './agenda.ts'
import { Conspiracy, type Scheme, type Span } from './conspiracy.ts'
import { dice } from './dice.ts'
import { Network, type Weather } from './network.ts'
import { Overlay } from './overlay.ts'
import { type Policy, Publisher, REAL_POLICY } from './publisher.ts'
import { User } from './user.ts'

/** What happens to one version. */
export type Story =
  /** One machine without layers, which always runs. */
  | { kind: 'runs' }
  /** Machines with layers, which are switched off one after another for good before `offMs`; their leases hold on. */
  | { kind: 'switched-off'; machines: number; offMs: number }
  /** Machines, with layers or without, that are on and off by chance, with these means. */
  | { kind: 'on-and-off'; machines: number; onMs: number; offMs: number }
  /** Machines of which the last crashes or is removed at `endMs`. */
  | { kind: 'abandoned'; machines: number; endMs: number; withLayers: boolean; crash: boolean }

export interface WorldSettings extends Weather {
  seed: number
  lengthMs: number
  peers: number
  /** Those of them that serve the image and meet its users, the publisher among them. */
  replicas: number
  graceMs: number
  runningTtlMs: number
  keepTtlMs: number
  /** For how long a peer stays, on average; half of those that leave come back. */
  stayMs: number
  /** When a part of all peers leaves within one minute, half of the holders of every version among them. */
  exodus?: { atMs: number; part: number }
  /** When the publisher's computer is off, and what its clock says too much afterwards. */
  pauses: readonly (Span & { clockErrorMs: number })[]
  scheme?: Scheme
  stories: readonly Story[]
}

export interface Fate {
  release: string
  story: Story['kind']
  /** When it was removed; undefined: it was not. */
  removedMs: number | undefined
  /** It was removed while somebody used it. */
  wasInUse: boolean
  /** When the last use ended; undefined: it has not ended. */
  unusedSinceMs: number | undefined
  /** The longest run of polls that found it unused while it was in use, as a part of the window. */
  closest: number
  /** The fewest witnesses that knew of a use at a poll while there was one. */
  fewest: number
  /** The most liars that there were among its holders at a poll. */
  liars: number
}

const SLOT_MS = 5_000
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
/** Shorter or longer than what a holder's tenure survives, never between (see network.ts). */
const SHORT_OUTAGE_MS = 5 * MINUTE_MS
const LONG_OUTAGE_MS = 61 * MINUTE_MS

/** Tells what happens, for a person who reads a replay. */
export type Narrator = (now: number, what: string) => void

export class World {
  readonly #settings: WorldSettings
  readonly #random: Random
  readonly #agenda = new Agenda<() => void>(SLOT_MS)
  readonly #overlay: Overlay
  readonly #network: Network
  readonly #publisher: Publisher
  readonly #replicas: string[]
  readonly #users = new Map<string, User[]>()
  readonly #fates = new Map<string, Fate>()
  readonly #narrate: Narrator | undefined
  #people = 0

  constructor(settings: WorldSettings, narrate?: Narrator, policy: Policy = REAL_POLICY) {
    this.#settings = settings
    this.#narrate = narrate
    // One stream of chance for each part, so that a change to one does not change what the others meet.
    this.#random = dice(settings.seed * 8)
    this.#overlay = new Overlay(dice(settings.seed * 8 + 1), settings.peers)
    const agenda = this.#agenda
    const liars = settings.scheme && new Conspiracy({ random: dice(settings.seed * 8 + 2), agenda }, settings.scheme)
    const network = new Network(
      { overlay: this.#overlay, random: dice(settings.seed * 8 + 3), ...(liars && { liars }) },
      settings
    )
    this.#network = network
    const [publisher, ...others] = this.#overlay.peers
    liars?.trust(publisher!)
    this.#replicas = settings.replicas === 0 ? [] : [publisher!, ...others.slice(1, settings.replicas)]
    const releases = settings.stories.map((_, i) => `publisher/grid@v${i + 1}`)
    const replicas = () => this.#replicas.filter(peer => this.#overlay.isAlive(peer))
    for (const [i, { kind }] of settings.stories.entries()) {
      const fate = { removedMs: undefined, wasInUse: false, unusedSinceMs: 0, closest: 0, fewest: Infinity, liars: 0 }
      this.#fates.set(releases[i]!, { release: releases[i]!, story: kind, ...fate })
    }
    this.#publisher = new Publisher(
      {
        ...{ network, agenda, random: dice(settings.seed * 8 + 4), replicas, policy },
        events: {
          polled: (release, state, poll) => this.#polled(release, state, poll),
          removed: release => this.#removed(release)
        }
      },
      { ...settings, peer: publisher!, releases }
    )
    if (liars !== undefined) liars.start(network, releases, publisher!)
    const random = dice(settings.seed * 8 + 5)
    for (const [i, story] of settings.stories.entries()) {
      const release = releases[i]!
      const machines = story.kind === 'runs' ? 1 : story.machines
      const users = Array.from({ length: machines }, () => {
        const name = `user-${this.#people++}`
        return new User({ network, agenda, random, replicas }, { name, release, ttls: settings })
      })
      this.#users.set(release, users)
      this.#tell(story, users, random)
    }
    this.#churn()
    this.#pauses()
    if (settings.exodus !== undefined) this.#exodus(settings.exodus)
  }

  run(): Fate[] {
    const { lengthMs } = this.#settings
    const fates = [...this.#fates.values()]
    while (this.#agenda.now < lengthMs && fates.some(({ removedMs }) => removedMs === undefined)) {
      this.#agenda.advance(Math.min(lengthMs, this.#agenda.now + HOUR_MS), event => event())
    }
    for (const fate of fates) this.#note(fate)
    return fates
  }

  #tell(story: Story, users: readonly User[], random: Random): void {
    const { unit } = random
    switch (story.kind) {
      case 'runs':
        users[0]!.use({ running: true, keep: false })
        break
      case 'switched-off':
        for (const [i, user] of users.entries()) {
          user.use({ running: true, keep: true })
          this.#at(story.offMs * (i === 0 ? 1 : unit()), user.release, () => {
            user.switchOff()
            this.#say(`${user.release}: a machine with layers is switched off for good`)
          })
        }
        break
      case 'on-and-off':
        for (const user of users) this.#onAndOff(user, unit() < 0.5, story, random)
        break
      case 'abandoned':
        for (const [i, user] of users.entries()) {
          user.use({ running: true, keep: story.withLayers })
          this.#at(story.endMs * (i === 0 ? 1 : unit()), user.release, () => {
            if (story.crash && !story.withLayers) user.switchOff()
            else user.use({ running: false, keep: false })
            this.#say(`${user.release}: a machine ${story.crash && !story.withLayers ? 'crashes' : 'is removed'}`)
          })
        }
    }
  }

  /** Runs, is detached or switched off, and comes back; now and then it is removed and made anew. */
  #onAndOff(user: User, keep: boolean, story: { onMs: number; offMs: number }, random: Random): void {
    const begin = () => {
      user.switchOn()
      user.use({ running: true, keep })
      this.#say(`${user.release}: a machine ${keep ? 'with' : 'without'} layers runs`)
      this.#at(this.#agenda.now + exponential(story.onMs, random), user.release, end)
    }
    const end = () => {
      const how = random.unit()
      if (how < 0.4) user.switchOff()
      else user.use({ running: false, keep: how < 0.8 && keep })
      this.#say(`${user.release}: it is ${how < 0.4 ? 'switched off' : how < 0.8 ? 'detached' : 'removed'}`)
      this.#at(this.#agenda.now + exponential(story.offMs, random), user.release, begin)
    }
    this.#at(exponential(story.offMs, random), user.release, begin)
  }

  /** Something in the story of a version; there is none after it was removed. */
  #at(timeMs: number, release: string, happen: () => void): void {
    this.#agenda.at(timeMs, () => {
      const fate = this.#fates.get(release)!
      if (fate.removedMs !== undefined) return
      this.#note(fate)
      happen()
      this.#note(fate)
    })
  }

  /** Looks at the truth. */
  #note(fate: Fate): void {
    if (fate.removedMs !== undefined) return
    if (this.#users.get(fate.release)!.some(({ isUsing }) => isUsing)) fate.unusedSinceMs = undefined
    else fate.unusedSinceMs ??= this.#agenda.now
  }

  #polled(release: string, state: CollectionState, { witnesses, holdersAsked }: Poll): void {
    const fate = this.#fates.get(release)!
    this.#note(fate)
    const holders = witnesses.filter(({ role }) => role === 'holder')
    const knowing = witnesses.filter(({ inUseForMs }) => inUseForMs > 0).length
    if (fate.unusedSinceMs === undefined) {
      fate.closest = Math.max(fate.closest, state.unusedForMs / windowMs(this.#settings))
      fate.fewest = Math.min(fate.fewest, knowing)
    }
    fate.liars = Math.max(fate.liars, holders.filter(({ peer }) => this.#network.isLiar(peer)).length)
    if (this.#narrate === undefined) return
    const truth = fate.unusedSinceMs === undefined ? 'in use' : 'unused'
    const answers = `${holders.length} of ${holdersAsked} holders answer, ${knowing} witnesses know a use`
    const { last, unusedForMs, claims, told } = state
    this.#say(
      `${release} (${truth}) polled: ${answers}; ${last.kind}, unused for ${(unusedForMs / HOUR_MS).toFixed(1)} h, ${claims.length} claims, ${told.sharers.length} sharers told`
    )
  }

  #removed(release: string): void {
    const fate = this.#fates.get(release)!
    this.#note(fate)
    fate.wasInUse = fate.unusedSinceMs === undefined
    fate.removedMs = this.#agenda.now
    this.#say(`${release} is removed${fate.wasInUse ? ' WHILE IT IS IN USE' : ''}`)
    for (const user of this.#users.get(release)!) user.switchOff()
  }

  /** One leaves, one comes, again and again. */
  #churn(): void {
    const { peers, stayMs } = this.#settings
    const next = () => {
      this.#agenda.at(this.#agenda.now + exponential(stayMs / peers, this.#random), () => {
        const [peer] = takeRandom(this.#overlay.peers, 1, this.#random)
        if (peer !== undefined) this.#leave(peer)
        next()
      })
    }
    next()
  }

  #leave(peer: string): void {
    if (peer === this.#publisher.peer) return
    const { unit } = this.#random
    this.#overlay.leave(peer)
    if (unit() < 0.5) {
      const newcomer = this.#overlay.join()
      const at = this.#replicas.indexOf(peer)
      if (at >= 0) this.#replicas[at] = newcomer
      return
    }
    const outageMs = unit() < 0.5 ? SHORT_OUTAGE_MS : LONG_OUTAGE_MS + exponential(2 * HOUR_MS, this.#random)
    this.#agenda.at(this.#agenda.now + outageMs, () => this.#overlay.comeBack(peer))
  }

  /** For good, and others come in the hours after. */
  #exodus({ atMs, part }: { atMs: number; part: number }): void {
    this.#agenda.at(atMs, () => {
      const leaving = new Set<string>()
      for (const release of this.#fates.keys()) {
        const circle = this.#network.circle(release).map(({ peer }) => peer)
        // Those who lie stay.
        const honest = circle.filter(peer => !this.#network.isLiar(peer))
        for (const peer of takeRandom(honest, circle.length / 2, this.#random)) leaving.add(peer)
      }
      const others = this.#overlay.peers.filter(peer => !leaving.has(peer))
      const missing = Math.max(0, Math.round(part * this.#overlay.peers.length) - leaving.size)
      for (const peer of takeRandom(others, missing, this.#random)) leaving.add(peer)
      leaving.delete(this.#publisher.peer)
      this.#say(`${leaving.size} of ${this.#overlay.peers.length} peers leave within a minute`)
      for (const peer of leaving) {
        this.#agenda.at(this.#agenda.now + this.#random.unit() * MINUTE_MS, () => {
          if (this.#overlay.isAlive(peer)) this.#overlay.leave(peer)
        })
        this.#agenda.at(this.#agenda.now + exponential(12 * HOUR_MS, this.#random), () => this.#overlay.join())
      }
    })
  }

  #pauses(): void {
    for (const { fromMs, untilMs, clockErrorMs } of this.#settings.pauses) {
      this.#agenda.at(fromMs, () => {
        this.#publisher.sleep()
        this.#overlay.leave(this.#publisher.peer)
        this.#say('the publisher is switched off')
      })
      this.#agenda.at(untilMs, () => {
        this.#overlay.comeBack(this.#publisher.peer)
        this.#publisher.wake(clockErrorMs)
        this.#say(`the publisher is switched on, its clock wrong by ${clockErrorMs / HOUR_MS} h`)
      })
    }
  }

  #say(what: string): void {
    this.#narrate?.(this.#agenda.now, what)
  }
}

function exponential(meanMs: number, random: Random): number {
  return -Math.log(1 - random.unit()) * meanMs
}
