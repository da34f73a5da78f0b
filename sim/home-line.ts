/**
 * Volunteers who boot behind one line, under a virtual clock: the swarm's own scheduler on each, and a model of what lies between.
 *
 *     far replicas ── one line: a rate, half a round trip each way, first in first out ── volunteers on one switch
 *
 * A volunteer's guest touches the blocks of a boot one after the other, with a while to think; what is not there it waits for. Beside it
 * the profile is replayed, if there is one. A volunteer serves its neighbours as src/swarm's serving side does: what it has at once, what
 * it was asked to fetch when it came. What a volunteer does wrong is its `fault`.
 */

import type { Rank } from '../src/swarm/messages.ts'
import { Scheduler } from '../src/swarm/scheduler.ts'
import { blockKey, type ItemKey, itemOf, type SchedulerEvent } from '../src/swarm/scheduler-types.ts'
import { Agenda } from './agenda.ts'
import { FarReplica } from './far-replica.ts'

const SLOT_MS = 0.1
const BLOCK_BYTES = 40_000
const IMAGE = 0
const DEMAND: Rank = 0
const PROFILE: Rank = 2
const PROFILE_WINDOW = 512
/** What a volunteer needs to pass a block on, and how often it tells what it has. */
const LAN_MS = 0.5
const HANDLING_MS = 1.5
const HAVE_MS = 100
const PAGE_BITS = 1024

/** `boasts` says that it has everything, and answers nothing; `mute` takes every request and answers none. */
export type Fault = 'boasts' | 'mute' | 'refuses' | 'lies'

export interface HomeLineOptions {
  volunteers: number
  far?: number
  rttMs: number
  bytesPerMs: number
  blocks: number
  thinkMs: number
  hasProfile: boolean
  /** Of the volunteer with this number, from this time on. */
  faults?: { volunteer: number; fault: Fault; fromMs: number }[]
  /** When each starts; together if absent. */
  startMs?: (volunteer: number) => number
  /** Their hosts are busy: what a volunteer does is late by up to so much, now more, now less. */
  busyMs?: number
  /** They do not know of each other. */
  areStrangers?: boolean
}

export interface HomeLineResult {
  /** Bytes of blocks that crossed the line. */
  lineBytes: number
  waits: { totalMs: number; longestMs: number }[]
  /** When the last guest had everything. */
  endMs: number
  /** Whether all guests without a fault came to their end. */
  isOver: boolean
}

const MAX_MS = 600_000

export function bootBehindOneLine(options: HomeLineOptions): HomeLineResult {
  return new HomeLine(options).run()
}

class HomeLine {
  readonly agenda = new Agenda<() => void>(SLOT_MS)
  readonly options: HomeLineOptions
  readonly volunteers: Volunteer[]
  lineBytes = 0
  #lineFreeMs = 0

  constructor(options: HomeLineOptions) {
    this.options = options
    this.volunteers = Array.from({ length: options.volunteers }, (_, n) => new Volunteer(this, n))
  }

  get now(): number {
    return this.agenda.now
  }

  get rttMs(): number {
    return this.options.rttMs
  }

  after(ms: number, run: () => void): void {
    this.agenda.at(this.now + ms, run)
  }

  run(): HomeLineResult {
    for (const volunteer of this.volunteers)
      this.agenda.at(this.options.startMs?.(volunteer.number) ?? 1, () => volunteer.start())
    while (this.now < MAX_MS && !this.#isOver) {
      this.agenda.advance(this.now + 100, run => run())
    }
    const waits = this.volunteers.map(({ waitedMs, longestMs }) => ({ totalMs: waitedMs, longestMs }))
    return { lineBytes: this.lineBytes, waits, endMs: this.now, isOver: this.#isOver }
  }

  get #isOver(): boolean {
    return this.volunteers.every(({ isDone, fault }) => isDone || fault !== undefined)
  }

  /** What a far replica sends takes its turn on the line. */
  carry(bytes: number, arrived: () => void): void {
    const { rttMs, bytesPerMs } = this.options
    this.#lineFreeMs = Math.max(this.now, this.#lineFreeMs) + bytes / bytesPerMs
    this.lineBytes += bytes
    this.agenda.at(this.#lineFreeMs + rttMs / 2, arrived)
  }
}

class Volunteer {
  readonly number: number
  readonly id: string
  readonly #world: HomeLine
  readonly #scheduler: Scheduler
  readonly #have = new Set<number>()
  readonly #far = new Map<string, FarReplica>()
  /** What each peer owes, so that a cancelled request is not answered with bytes. */
  readonly #owed = new Map<string, Set<ItemKey>>()
  readonly #errands = new Map<number, Set<Volunteer>>()
  readonly #profileWanted = new Set<number>()
  #profileNext = 0
  #guestNext = 0
  #guestWaitsMs: number | undefined
  #dueMs = Number.POSITIVE_INFINITY
  #isDeciding = false
  #turns = 0
  #hasNews = false
  #isOn = false
  waitedMs = 0
  longestMs = 0
  isDone = false

  constructor(world: HomeLine, number: number) {
    this.#world = world
    this.number = number
    this.id = `volunteer ${number}`
    this.#scheduler = new Scheduler([], this.id)
  }

  get fault(): Fault | undefined {
    const { faults = [] } = this.#world.options
    return faults.find(({ volunteer, fromMs }) => volunteer === this.number && fromMs <= this.#world.now)?.fault
  }

  start(): void {
    const { options, volunteers } = this.#world
    for (let n = 0; n < (options.far ?? 2); n++) {
      this.#far.set(`far ${n}`, new FarReplica(this.#world, BLOCK_BYTES, key => this.answered(`far ${n}`, key)))
      this.#event({ type: 'joined', peer: `far ${n}`, rttMs: options.rttMs })
      this.#event({ type: 'has', peer: `far ${n}`, image: IMAGE, complete: true, pages: [] })
    }
    for (const other of volunteers) {
      if (other === this || !other.#isOn || options.areStrangers) continue
      this.meet(other)
      other.meet(this)
    }
    this.#isOn = true
    this.#replay()
    this.#touch()
    this.#tell()
  }

  meet(other: Volunteer): void {
    this.#event({ type: 'joined', peer: other.id, rttMs: 2 * LAN_MS, kind: { onOwnNetwork: true } })
    this.#event({ type: 'has', peer: other.id, image: IMAGE, complete: false, pages: other.#pages() })
    this.#event({ type: 'helps', peer: other.id, image: IMAGE, helps: true })
  }

  isOwed(peer: string, key: ItemKey): boolean {
    return this.#owed.get(peer)?.has(key) ?? false
  }

  missing(peer: string, key: ItemKey, reason: 'cancelled' | 'absent' | 'refused', ms: number): void {
    this.#world.after(ms, () => {
      this.#owed.get(peer)?.delete(key)
      this.#event({ type: 'missing', peer, key, reason })
    })
  }

  answered(peer: string, key: ItemKey, isWrong = false): void {
    this.#owed.get(peer)?.delete(key)
    this.#event({ type: 'answered', peer, key, bytes: BLOCK_BYTES })
    if (isWrong) {
      this.#event({ type: 'lied', peer })
      return
    }
    this.#event({ type: 'done', key })
    this.#stored((itemOf(key) as { block: number }).block)
  }

  #stored(block: number): void {
    if (this.#have.has(block)) return
    this.#have.add(block)
    this.#hasNews = true
    for (const asker of this.#errands.get(block) ?? []) this.#give(asker, block)
    this.#errands.delete(block)
    if (this.#profileWanted.delete(block)) this.#replay()
    if (block === this.#guestNext && this.#guestWaitsMs !== undefined) {
      const ms = this.#world.now - this.#guestWaitsMs
      this.waitedMs += ms
      this.longestMs = Math.max(this.longestMs, ms)
      this.#guestWaitsMs = undefined
      this.#think()
    }
  }

  #replay(): void {
    const { hasProfile, blocks } = this.#world.options
    while (hasProfile && this.#profileWanted.size < PROFILE_WINDOW && this.#profileNext < blocks) {
      const block = this.#profileNext++
      if (this.#have.has(block)) continue
      this.#profileWanted.add(block)
      this.#event({ type: 'want', key: blockKey(IMAGE, block), rank: PROFILE })
    }
  }

  #touch(): void {
    if (this.#guestNext >= this.#world.options.blocks) {
      this.isDone = true
      return
    }
    if (this.#have.has(this.#guestNext)) {
      this.#think()
      return
    }
    this.#guestWaitsMs = this.#world.now
    this.#event({ type: 'want', key: blockKey(IMAGE, this.#guestNext), rank: DEMAND })
  }

  #think(): void {
    // Never quite in step: a little more for one than for the other.
    const ms = this.#world.options.thinkMs * (1 + ((this.#guestNext * 7 + this.number * 13) % 10) / 50)
    this.#guestNext++
    this.#world.after(ms, () => this.#touch())
  }

  #tell(): void {
    if (this.#hasNews) {
      this.#hasNews = false
      const pages = this.#pages()
      for (const other of this.#world.volunteers) {
        if (other === this || !other.#isOn || this.#world.options.areStrangers) continue
        this.#world.after(LAN_MS, () =>
          other.#event({ type: 'has', peer: this.id, image: IMAGE, complete: false, pages })
        )
      }
    }
    this.#world.after(HAVE_MS, () => this.#tell())
  }

  #pages(): { page: number; bitmap: Uint8Array }[] {
    const boasts = this.fault === 'boasts'
    const count = Math.ceil(this.#world.options.blocks / PAGE_BITS)
    return Array.from({ length: count }, (_, page) => {
      const bitmap = new Uint8Array(PAGE_BITS / 8).fill(boasts ? 255 : 0)
      for (const block of this.#have) {
        const bit = block - page * PAGE_BITS
        if (bit >= 0 && bit < PAGE_BITS) bitmap[bit >> 3]! |= 1 << (bit & 7)
      }
      return { page, bitmap }
    })
  }

  /** A neighbour asks. */
  serve(asker: Volunteer, key: ItemKey, rank: Rank, onBehalf: boolean): void {
    const { block } = itemOf(key) as { block: number }
    const { fault } = this
    if (fault === 'boasts' || fault === 'mute') return
    if (fault === 'refuses') asker.missing(this.id, key, 'refused', LAN_MS)
    else if (fault === 'lies') this.#world.after(LAN_MS, () => asker.answered(this.id, key, true))
    else if (this.#have.has(block)) this.#give(asker, block)
    else if (!onBehalf) asker.missing(this.id, key, 'absent', LAN_MS)
    else {
      const askers = this.#errands.get(block)
      if (askers === undefined) this.#errands.set(block, new Set([asker]))
      else askers.add(asker)
      this.#event({ type: 'want', key, rank, relied: true })
    }
  }

  #give(asker: Volunteer, block: number): void {
    const key = blockKey(IMAGE, block)
    this.#world.after(HANDLING_MS + LAN_MS + this.#latenessMs(), () => {
      if (asker.isOwed(this.id, key)) asker.answered(this.id, key)
    })
  }

  #event(event: SchedulerEvent): void {
    this.#scheduler.apply(event, this.#world.now)
    if (this.#isDeciding) return
    this.#isDeciding = true
    this.#world.after(this.#latenessMs(), () => {
      this.#isDeciding = false
      this.#decide()
    })
  }

  /** Mostly little. Always the same for the same history. */
  #latenessMs(): number {
    const { busyMs = 0 } = this.#world.options
    const share = ((++this.#turns * 7919 + this.number * 104_729) % 101) / 100
    return busyMs * share ** 4
  }

  #decide(): void {
    const { now } = this.#world
    for (const action of this.#scheduler.decide(now)) {
      if (action.type === 'credit') this.#far.get(action.peer)?.grant(action.bytes)
      if (action.type === 'call-off') for (const key of action.keys) this.#callOff(action.peer, key)
      if (action.type === 'raise') for (const key of action.keys) this.#raise(action.peer, key, action.rank)
      if (action.type === 'drop') this.#event({ type: 'left', peer: action.peer })
      if (action.type !== 'send') continue
      for (const key of action.keys) this.#send(action.peer, key, action.rank, action.onBehalf ?? false)
    }
    const dueMs = this.#scheduler.nextMs(now)
    if (dueMs === undefined || (this.#dueMs > now && this.#dueMs <= dueMs)) return
    this.#dueMs = dueMs
    this.#world.after(dueMs - now, () => this.#event({ type: 'time', lateMs: 0 }))
  }

  #callOff(peer: string, key: ItemKey): void {
    if (!this.isOwed(peer, key)) return
    const { rttMs } = this.#world.options
    this.#far.get(peer)?.callOff(key, () => this.missing(peer, key, 'cancelled', rttMs / 2))
    const neighbour = this.#neighbour(peer)
    if (neighbour === undefined) return
    const wasWaiting = neighbour.#errands.get((itemOf(key) as { block: number }).block)?.delete(this)
    if (wasWaiting) this.missing(peer, key, 'cancelled', 2 * LAN_MS)
  }

  #raise(peer: string, key: ItemKey, rank: Rank): void {
    this.#far.get(peer)?.raise(key, rank)
    this.#world.after(LAN_MS, () => this.#neighbour(peer)?.raised(key, rank))
  }

  raised(key: ItemKey, rank: Rank): void {
    const { block } = itemOf(key) as { block: number }
    if (this.#errands.has(block)) this.#event({ type: 'want', key, rank, relied: true })
  }

  #send(peer: string, key: ItemKey, rank: Rank, onBehalf: boolean): void {
    const owed = this.#owed.get(peer) ?? new Set()
    this.#owed.set(peer, owed.add(key))
    const neighbour = this.#neighbour(peer)
    this.#far.get(peer)?.ask(key, rank)
    if (neighbour !== undefined) this.#world.after(LAN_MS, () => neighbour.serve(this, key, rank, onBehalf))
  }

  #neighbour(peer: string): Volunteer | undefined {
    return this.#world.volunteers.find(({ id }) => id === peer)
  }
}
