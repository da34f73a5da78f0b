/**
 * Says what this peer uses: seals its leases and puts them to the holders of the release, and to replicas.
 *
 * Owns: the list of leases that are out, in the catalog, so that what a restart has left behind is given back too. When
 * what is due is for lease-plan.ts to say; at which holders, for sharer-lease.ts.
 */

import type { Clock, Log, Random } from '../environment.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'
import type { HolderAnswer } from './directory-client.ts'
import { until } from './held-leases.ts'
import type { HolderCircle } from './holder-circle.ts'
import { kadKey } from './key.ts'
import type { LeaseOutcome, LeasePlan, LeaseTask, Share } from './lease-plan.ts'
import { applianceOf, type Lease, sealLease } from './lease-record.ts'
import { FULL_SET_OF_HOLDERS, PROBES_TRIED, REPLICAS_TOLD } from './limits.ts'
import { owned, TABLE } from './messages.ts'
import { pollHolders } from './poll-holders.ts'
import type { Pseudonyms } from './pseudonyms.ts'
import type { CloserPeer } from './routing.ts'
import { takeRandom } from './sampling.ts'
import { isFarAbove } from './sharer-lease.ts'
import { HASH_SPAN, leaseHash } from './sharer-sketch.ts'
import { ToldPeers } from './told-peers.ts'

export interface OwnLeasesComponents {
  circle: Pick<HolderCircle, 'of' | 'putTo' | 'ask' | 'signal'>
  plan: LeasePlan
  pseudonyms: Pseudonyms
  /** Replicas of an image that this peer is connected with. */
  replicas: (image: string) => CloserPeer[]
  catalog: Catalog
  clock: Clock
  random: Random
  log: Log
}

/** A lease that holders may have. */
interface Out {
  image: string
  sequence: number
  untilMs: number
}

/** Outcomes that say that a holder's clock and this one differ. */
const CLOCKS_DIFFER = /: (future|expired)$/

export class OwnLeases {
  readonly #components: OwnLeasesComponents
  readonly #ttls: { runningMs: number; keepMs: number }
  readonly #table: Table<Out>
  readonly #out = new Map<string, Out>()
  readonly #told = new ToldPeers()
  /** The newest lease of each release, sealed, for greetings. */
  readonly #sealed = new Map<string, { image: string; bytes: Uint8Array<ArrayBuffer> }>()
  #lastSequence = 0

  constructor(components: OwnLeasesComponents, settings: { runningTtlMs: number; keepTtlMs: number }) {
    this.#components = components
    this.#ttls = { runningMs: settings.runningTtlMs, keepMs: settings.keepTtlMs }
    this.#table = components.catalog.table('leases-out', jsonCodec<Out>())
  }

  /** Finds what is out from before a restart. */
  async start(): Promise<void> {
    const { clock, plan } = this.#components
    for await (const [release, out] of this.#table.entries()) {
      this.#lastSequence = Math.max(this.#lastSequence, out.sequence)
      if (out.untilMs <= clock.now()) {
        await this.#table.delete(release)
        continue
      }
      this.#out.set(release, out)
      plan.remember(release, out.image, clock.monotonicMs())
    }
  }

  /** Carries out what the plan says is due. */
  async run(task: LeaseTask, signal: AbortSignal): Promise<LeaseOutcome> {
    if (task.kind === 'give-back') return this.#giveBack(task, signal)
    const record = await this.#seal(task.share)
    const outcome = task.kind === 'probe' ? await this.#probe(task, signal) : await this.#renew(task, record, signal)
    const { replicas, random } = this.#components
    const chosen = takeRandom(replicas(task.share.image), REPLICAS_TOLD, random)
    this.#told.add(task.share.release, chosen)
    await this.#tell(chosen, record, signal)
    return outcome
  }

  /** Leases of these images, for a replica that this peer greets: of no others, or they could be seen to be one peer's. */
  offer(images: readonly string[]): Uint8Array[] {
    const wanted = new Set(images)
    return [...this.#sealed.values()].filter(({ image }) => wanted.has(image)).map(({ bytes }) => bytes)
  }

  async #renew(task: LeaseTask, record: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<LeaseOutcome> {
    const { circle, clock, log } = this.#components
    const { share, lease, restMs } = task
    const holders = await circle.of(kadKey('sharers', share.release), signal)
    const targets = lease.targets(holders, clock.monotonicMs())
    this.#told.add(share.release, targets)
    const hash = await this.#hashOf(share.release)
    const put = await circle.putTo(targets, { table: TABLE.sharers, record }, signal, {
      request: () => ({ sharers: { release: share.release, hashes: false } }),
      answered: async (holder, answer) => {
        const mayRest = isFarAbove(hash, thresholdOf(answer))
        lease.heard(holder.peer, mayRest, clock.monotonicMs() + restMs)
      }
    })
    lease.settle(clock.monotonicMs())
    if (put.kept === 0 && put.refused.some(reason => CLOCKS_DIFFER.test(reason))) {
      log.warn('other peers refuse what this one says of its machines: are their clocks and this one right?', {
        release: share.release,
        refused: put.refused.length
      })
    }
    return { asked: holders.length, kept: put.kept + holders.length - targets.length }
  }

  /** Asks one holder, chosen by chance, whether the lease may go on resting. */
  async #probe({ share, lease, restMs }: LeaseTask, signal: AbortSignal): Promise<LeaseOutcome> {
    const { circle, clock, random, log } = this.#components
    const hash = await this.#hashOf(share.release)
    const { length } = lease.circle
    for (const holder of takeRandom(lease.circle, PROBES_TRIED, random)) {
      try {
        const request = { sharers: { release: share.release, hashes: false } }
        const mayRest = isFarAbove(hash, thresholdOf(await circle.ask(holder, request, circle.signal(signal))))
        lease.probed(mayRest, clock.monotonicMs() + restMs)
        return { asked: length, kept: length }
      } catch (error) {
        log.debug('a holder does not answer', { peer: holder.peer, error: String(error) })
      }
    }
    lease.probed(undefined, 0)
    return { asked: length, kept: length }
  }

  async #giveBack({ share }: LeaseTask, signal: AbortSignal): Promise<LeaseOutcome> {
    const { circle, clock, replicas, log } = this.#components
    const { release } = share
    this.#sealed.delete(release)
    const out = this.#out.get(release)
    if (out === undefined || out.untilMs <= clock.now()) {
      await this.#forget(release)
      return { asked: 0, kept: 0, over: true }
    }
    const times = { runningUntilMs: 0, keepUntilMs: out.untilMs }
    const record = await this.#sealWith(release, { ...times, givenBack: true })
    const holders = await circle.of(kadKey('sharers', release), signal)
    const { asked, kept } = await circle.putTo(holders, { table: TABLE.sharers, record }, signal)
    const isHolder = new Set(holders.map(({ peer }) => peer))
    const others = replicas(share.image).filter(({ peer }) => !isHolder.has(peer))
    const unheard = await this.#tell(others, record, signal)
    // Many of these are gone for good, so nobody waits for them to be reached.
    await this.#tell(this.#told.beside(release, [...holders, ...others]), record, signal)
    const missed = asked - kept + unheard
    // In a network that seems too small, others may have the lease: it is given back again, now and after a restart.
    if (missed === 0 && kept > 0 && asked >= FULL_SET_OF_HOLDERS) await this.#forget(release)
    log.debug('gave back a lease', { release, asked, kept, unheard })
    return { asked, kept, missed }
  }

  async #seal(share: Share): Promise<Uint8Array<ArrayBuffer>> {
    const { release, image, running, keep } = share
    const now = this.#components.clock.now()
    const times = {
      runningUntilMs: running ? Math.floor(now + this.#ttls.runningMs) : 0,
      keepUntilMs: keep ? Math.floor(now + this.#ttls.keepMs) : 0
    }
    const bytes = await this.#sealWith(release, { ...times, givenBack: false })
    // What was out may hold for longer than what is said now: it is still to be given back.
    const untilMs = Math.max(until(times), this.#out.get(release)?.untilMs ?? 0)
    const out = { image, sequence: this.#lastSequence, untilMs }
    this.#out.set(release, out)
    this.#sealed.set(release, { image, bytes })
    // Before it is told to anybody, so that it can be given back whatever happens.
    await this.#table.put(release, out)
    return bytes
  }

  async #sealWith(
    release: string,
    what: Pick<Lease, 'runningUntilMs' | 'keepUntilMs' | 'givenBack'>
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { pseudonyms, clock } = this.#components
    const issuedMs = Math.floor(clock.now())
    this.#lastSequence = Math.max(issuedMs, this.#lastSequence + 1)
    const lease = { release, sequence: this.#lastSequence, ...what }
    // The clock may have been set back behind what is given back.
    const issued = Math.min(issuedMs, until(lease) - 1)
    return owned(await sealLease({ ...lease, issuedMs: issued }, await pseudonyms.of(applianceOf(release))))
  }

  /** Returns how many could not be told. */
  async #tell(chosen: readonly CloserPeer[], record: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<number> {
    const { circle } = this.#components
    const request = { puts: [{ table: TABLE.sharers, record }] }
    // One that cannot be asked this way has the lease from the greeting.
    const { failed } = await pollHolders(
      chosen,
      async (replica, one) => {
        await circle.ask(replica, request, one)
      },
      () => false,
      circle.signal(signal)
    )
    return failed.length
  }

  async #forget(release: string): Promise<void> {
    this.#told.forget(release)
    this.#out.delete(release)
    await this.#table.delete(release)
  }

  async #hashOf(release: string): Promise<number> {
    const key = await this.#components.pseudonyms.of(applianceOf(release))
    return leaseHash(key.publicKey.toString(), release)
  }
}

/** 1, which lets nobody rest, where a holder does not say. */
function thresholdOf({ response }: HolderAnswer): number {
  return response.sharers === undefined ? 1 : response.sharers.threshold / HASH_SPAN
}
