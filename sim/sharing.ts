/**
 * One release and all who use it: holders and sharers as they are, without network, disk or signatures.
 *
 * Each holder is the real `Holder`, each sharer the real `SharerLease` with the real times of renewal. What is modelled:
 * routing (overlay.ts), signatures (a sharer's name and hash are drawn), and the wire (a put or a question arrives at
 * once if the holder is alive). Crashes take effect without a word.
 */

import type { Holder } from '../src/directory/holder.ts'
import { Holder as RealHolder } from '../src/directory/holder.ts'
import { renewalMs, restDelayMs } from '../src/directory/lease-plan.ts'
import { DEFAULT_HOLDER_BYTES, PROBES_TRIED, RENEWAL_JITTER, REST_RENEWALS } from '../src/directory/limits.ts'
import { jittered, takeRandom } from '../src/directory/sampling.ts'
import { isFarAbove, SharerLease } from '../src/directory/sharer-lease.ts'
import { HASH_SPAN, mergeSketches, type SharerEstimate } from '../src/directory/sharer-sketch.ts'
import type { Random } from '../src/environment.ts'
import { sha256 } from '../src/image/hash.ts'
import { Agenda } from './agenda.ts'
import { dice } from './dice.ts'
import { Overlay } from './overlay.ts'

export const RELEASE = 'publisher/grid@v1'
/** A moment in 2026, when simulations begin by the wall clock. */
const BEGINNING_MS = 1_795_000_000_000

interface Sharer {
  hash: number
  lease: SharerLease
  isAlive: boolean
}

/** What reached one holder. */
export interface Traffic {
  renewals: number
  questions: number
}

export interface Poll extends SharerEstimate {
  /** Whether any of the holders knows of a lease. */
  inUse: boolean
}

export class Sharing {
  readonly overlay: Overlay
  readonly agenda: Agenda
  readonly ttlMs: number
  readonly #random: Random
  readonly #holders = new Map<string, Holder>()
  readonly #sharers: Sharer[] = []
  readonly #place = sha256(Buffer.from(RELEASE))
  #traffic = new Map<string, Traffic>()

  constructor(settings: { seed: number; peers: number; ttlMs: number }) {
    this.ttlMs = settings.ttlMs
    this.#random = dice(settings.seed)
    this.overlay = new Overlay(dice(settings.seed + 1), settings.peers)
    this.agenda = new Agenda(settings.ttlMs / 3600)
  }

  get circle() {
    return this.overlay.closest(RELEASE, this.#place)
  }

  /** Sharers that begin within the next `spanMs`, each at a random moment. */
  join(count: number, spanMs: number): void {
    for (let i = 0; i < count; i++) {
      const hash = Math.floor(this.#random.unit() * 2 ** 32) * 2 ** 16 + Math.floor(this.#random.unit() * 2 ** 16)
      const id = this.#sharers.push({ hash: hash / HASH_SPAN, lease: new SharerLease(), isAlive: true }) - 1
      this.agenda.at(this.agenda.now + this.#random.unit() * spanMs, id)
    }
  }

  /** All but `left` of the sharers are gone at once, chosen by chance. */
  crash(left: number): void {
    const alive = this.#sharers.filter(({ isAlive }) => isAlive)
    const survivors = new Set(takeRandom(alive, left, this.#random))
    for (const sharer of alive) sharer.isAlive = survivors.has(sharer)
  }

  /** Lets time pass. */
  pass(ms: number): void {
    this.agenda.advance(this.agenda.now + ms, (id, now) => this.#wake(id, now))
  }

  /** A publisher asks: the holders that are alive, all of them. */
  poll(): Poll {
    const now = BEGINNING_MS + this.agenda.now
    const found = this.circle.map(({ peer }) => this.holder(peer).getSharers(RELEASE, now).found)
    return { ...mergeSketches(found), inUse: found.some(({ inUseUntilMs }) => inUseUntilMs > now) }
  }

  /** What has reached each holder since this was last asked. */
  takeTraffic(): Traffic[] {
    const traffic = [...this.#traffic.values()]
    this.#traffic = new Map()
    return traffic
  }

  holder(peer: string): Holder {
    let holder = this.#holders.get(peer)
    if (holder === undefined) {
      holder = new RealHolder({ random: this.#random }, { quotaBytes: DEFAULT_HOLDER_BYTES })
      this.#holders.set(peer, holder)
    }
    return holder
  }

  #wake(id: number, now: number): void {
    const sharer = this.#sharers[id]!
    if (!sharer.isAlive) return
    const { lease } = sharer
    if (lease.isResting) this.#probe(sharer, now)
    if (!lease.isResting) this.#renew(sharer, id, now)
    const renewal = renewalMs(this.ttlMs)
    const delayMs = lease.isResting
      ? restDelayMs(renewal, this.#random)
      : jittered(renewal, RENEWAL_JITTER, this.#random)
    this.agenda.at(now + delayMs, id)
  }

  #renew({ lease, hash }: Sharer, id: number, now: number): void {
    const issuedMs = BEGINNING_MS + now
    const times = { sequence: issuedMs, issuedMs, runningUntilMs: issuedMs + this.ttlMs, keepUntilMs: 0 }
    for (const { peer } of lease.targets(this.circle, now)) {
      const holder = this.holder(peer)
      holder.put({ table: 'sharers', key: RELEASE, signer: `sharer-${id}`, hash, ...times, givenBack: false }, issuedMs)
      this.#trafficOf(peer).renewals++
      lease.heard(peer, isFarAbove(hash, this.#threshold(holder, issuedMs)), now + this.#restMs)
    }
    lease.settle(now)
  }

  #probe({ lease, hash }: Sharer, now: number): void {
    for (const { peer } of takeRandom(lease.circle, PROBES_TRIED, this.#random)) {
      if (!this.overlay.isAlive(peer)) continue
      this.#trafficOf(peer).questions++
      const mayRest = isFarAbove(hash, this.#threshold(this.holder(peer), BEGINNING_MS + now))
      lease.probed(mayRest, now + this.#restMs)
      return
    }
    lease.probed(undefined, 0)
  }

  get #restMs(): number {
    return REST_RENEWALS * renewalMs(this.ttlMs)
  }

  #threshold(holder: Holder, wallMs: number): number {
    return holder.getSharers(RELEASE, wallMs, { hashes: false }).found.threshold
  }

  #trafficOf(peer: string): Traffic {
    let traffic = this.#traffic.get(peer)
    if (traffic === undefined) {
      traffic = { renewals: 0, questions: 0 }
      this.#traffic.set(peer, traffic)
    }
    return traffic
  }
}
