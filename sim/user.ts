/**
 * Somebody's computer with a machine of one release: the real `LeasePlan` and `SharerLease`, on virtual time.
 *
 * Stands in for own-leases.ts, which signs, waits for the wire and writes to a catalog: what is said when and to whom
 * is the same, step by step. The computer can be switched off, and then says nothing.
 */

import type { LeaseEntry } from '../src/directory/held-leases.ts'
import { type LeaseOutcome, LeasePlan, type LeaseTask } from '../src/directory/lease-plan.ts'
import { FULL_SET_OF_HOLDERS, PROBES_TRIED, REPLICAS_TOLD } from '../src/directory/limits.ts'
import type { CloserPeer } from '../src/directory/routing.ts'
import { takeRandom } from '../src/directory/sampling.ts'
import { isFarAbove } from '../src/directory/sharer-lease.ts'
import { ToldPeers } from '../src/directory/told-peers.ts'
import type { Random } from '../src/environment.ts'
import type { Agenda } from './agenda.ts'
import { BEGINNING_MS, type Network } from './network.ts'

export interface Ttls {
  runningTtlMs: number
  keepTtlMs: number
}

export interface Use {
  running: boolean
  keep: boolean
}

const NOTHING: Use = { running: false, keep: false }
/** Outcomes after which a lease is where it should be, or a newer one of this user (as in holder-circle.ts). */
const SETTLED = new Set(['kept', 'known', 'older', 'withdrawn', 'counted'])
const TASKS_AT_ONCE = 2
/** Replicas that it is connected with while it is on. */
const REPLICAS_CONNECTED = 12

export class User {
  readonly release: string
  readonly #name: string
  readonly #hash: number
  readonly #ttls: Ttls
  readonly #network: Network
  readonly #agenda: Agenda<() => void>
  readonly #random: Random
  readonly #replicas: () => readonly string[]
  #plan: LeasePlan
  #use = NOTHING
  #isOn = true
  #sequence = 0
  /** When the last lease that was told ends, as its catalog has it; 0 when all was given back. */
  #outUntilMs = 0
  /** When the last keep lease that was told, and not given back, ends. */
  #keptUntilMs = 0
  /** Of the replicas, those that it is connected with. */
  #connected: readonly string[] = []
  #told = new ToldPeers()
  /** Counts up whenever what was planned is out of date. */
  #turn = 0

  constructor(
    components: { network: Network; agenda: Agenda<() => void>; random: Random; replicas: () => readonly string[] },
    settings: { name: string; release: string; ttls: Ttls }
  ) {
    this.#network = components.network
    this.#agenda = components.agenda
    this.#random = components.random
    this.#replicas = components.replicas
    this.#name = settings.name
    this.release = settings.release
    this.#ttls = settings.ttls
    this.#hash = components.random.unit()
    this.#plan = new LeasePlan({ random: components.random }, settings.ttls)
  }

  /** A machine runs, or stands still with layers of its own, or neither: it was removed. */
  use(use: Use): void {
    this.#use = use
    if (!use.keep) this.#keptUntilMs = 0
    if (this.#isOn) this.#share()
  }

  /** The plug is pulled; nobody is told. */
  switchOff(): void {
    this.#isOn = false
    this.#connected = []
    this.#turn++
  }

  /** Starts again with what it had when it was switched off. */
  switchOn(): void {
    if (this.#isOn) return
    this.#isOn = true
    this.#plan = new LeasePlan({ random: this.#random }, this.#ttls)
    this.#told = new ToldPeers()
    if (this.#outUntilMs > BEGINNING_MS + this.#agenda.now) {
      this.#plan.remember(this.release, '', this.#agenda.now)
    }
    this.#share()
  }

  /** The truth, which nobody else knows: a machine runs, or has layers and its lease has not run out. */
  get isUsing(): boolean {
    return (this.#isOn && (this.#use.running || this.#use.keep)) || this.#keptUntilMs > BEGINNING_MS + this.#agenda.now
  }

  #share(): void {
    if (this.#connected.length === 0) this.#connected = takeRandom(this.#replicas(), REPLICAS_CONNECTED, this.#random)
    this.#plan.share([{ release: this.release, image: '', ...this.#use }], this.#agenda.now)
    this.#wake(++this.#turn)
  }

  #wake(turn: number): void {
    if (turn !== this.#turn) return
    const { now } = this.#agenda
    for (let tasks = this.#plan.due(now, TASKS_AT_ONCE); tasks.length > 0; tasks = this.#plan.due(now, TASKS_AT_ONCE)) {
      for (const task of tasks) this.#plan.done(task, this.#run(task, now), now)
    }
    const next = this.#plan.nextMs()
    if (next !== undefined) this.#agenda.at(next, () => this.#wake(turn))
  }

  #run(task: LeaseTask, now: number): LeaseOutcome {
    if (task.kind === 'give-back') return this.#giveBack(now)
    const { running, keep } = task.share
    const wallMs = BEGINNING_MS + now
    const entry = this.#entry(wallMs, {
      runningUntilMs: running ? wallMs + this.#ttls.runningTtlMs : 0,
      keepUntilMs: keep ? wallMs + this.#ttls.keepTtlMs : 0,
      givenBack: false
    })
    this.#keptUntilMs = entry.keepUntilMs
    this.#outUntilMs = Math.max(this.#outUntilMs, entry.runningUntilMs, entry.keepUntilMs)
    const outcome = task.kind === 'probe' ? this.#probe(task, now) : this.#renew(task, entry, now)
    const chosen = takeRandom(this.#connected, REPLICAS_TOLD, this.#random)
    this.#told.add(this.release, chosen.map(asPeer))
    for (const replica of chosen) this.#network.put(replica, entry, now)
    return outcome
  }

  #renew({ lease, restMs }: LeaseTask, entry: LeaseEntry, now: number): LeaseOutcome {
    const circle = this.#network.circle(this.release)
    const targets = lease.targets(circle, now)
    this.#told.add(this.release, targets)
    let kept = circle.length - targets.length
    for (const { peer } of targets) {
      const outcome = this.#network.put(peer, entry, now)
      if (outcome === undefined) continue
      if (SETTLED.has(outcome)) kept++
      // The answer to a put carries the threshold.
      const said = this.#network.ask(peer, this.release, now)
      if (said !== undefined) lease.heard(peer, isFarAbove(this.#hash, said.threshold), now + restMs)
    }
    lease.settle(now)
    return { asked: circle.length, kept }
  }

  #probe({ lease, restMs }: LeaseTask, now: number): LeaseOutcome {
    const { length } = lease.circle
    for (const { peer } of takeRandom(lease.circle, PROBES_TRIED, this.#random)) {
      const said = this.#network.ask(peer, this.release, now)
      if (said === undefined) continue
      lease.probed(isFarAbove(this.#hash, said.threshold), now + restMs)
      return { asked: length, kept: length }
    }
    lease.probed(undefined, 0)
    return { asked: length, kept: length }
  }

  #giveBack(now: number): LeaseOutcome {
    const wallMs = BEGINNING_MS + now
    if (this.#outUntilMs <= wallMs) return { asked: 0, kept: 0, over: true }
    const entry = this.#entry(wallMs, { runningUntilMs: 0, keepUntilMs: this.#outUntilMs, givenBack: true })
    const circle = this.#network.circle(this.release)
    let kept = 0
    for (const { peer } of circle) if (SETTLED.has(this.#network.put(peer, entry, now) ?? '')) kept++
    let missed = circle.length - kept
    const isHolder = new Set(circle.map(({ peer }) => peer))
    const others = this.#connected.filter(replica => !isHolder.has(replica))
    for (const replica of others) if (this.#network.put(replica, entry, now) === undefined) missed++
    const before = this.#told.beside(this.release, [...circle, ...others.map(asPeer)])
    for (const { peer } of before) this.#network.put(peer, entry, now)
    if (missed === 0 && kept > 0 && circle.length >= FULL_SET_OF_HOLDERS) this.#outUntilMs = 0
    return { asked: circle.length, kept, missed }
  }

  #entry(wallMs: number, what: Pick<LeaseEntry, 'runningUntilMs' | 'keepUntilMs' | 'givenBack'>): LeaseEntry {
    this.#sequence = Math.max(wallMs, this.#sequence + 1)
    const { release: key } = this
    const signer = this.#name
    return { table: 'sharers', key, signer, hash: this.#hash, sequence: this.#sequence, issuedMs: wallMs, ...what }
  }
}

function asPeer(peer: string): CloserPeer {
  return { peer, addresses: [] }
}
