/**
 * The directory: who has released what, and who serves it.
 *
 * Records live on the HOLDERS_PER_KEY peers closest to their key. kad-dht finds those peers; its own records are not
 * used, because they have one time to live for all, let an older value overwrite a newer one, and let one stale
 * provider spoil an answer. What a holder keeps and says is holder.ts and directory-service.ts; what a client believes
 * is appliance-memory.ts and latest-search.ts; this class puts them together.
 *
 * What this peer uses it says under pseudonyms (own-leases.ts); who uses a release is asked by sharer-count.ts.
 *
 * A replica is announced under its image and under its appliance, so that one question for the appliance brings all
 * that a boot needs: the record, and peers to fetch from.
 */

import type { PrivateKey } from '@libp2p/interface'
import type { Clock, Log, Random } from '../environment.ts'
import type { ErrorCode } from '../errors.ts'
import { fromHex } from '../image/hash.ts'
import { openLatest, type VerifiedLatest } from '../image/release.ts'
import type { Catalog } from '../store/catalog.ts'
import { type Announcement, AnnouncePlan } from './announce-plan.ts'
import { Announcer } from './announcer.ts'
import type { ApplianceMemory } from './appliance-memory.ts'
import { DialBack } from './dial-back.ts'
import { DirectoryClient } from './directory-client.ts'
import type { DirectoryNetwork } from './directory-network.ts'
import { DirectoryService } from './directory-service.ts'
import { FoundReplicas } from './found-replicas.ts'
import { Holder } from './holder.ts'
import { HolderCircle, type PutAnswer } from './holder-circle.ts'
import { HolderStore } from './holder-store.ts'
import { kadKey } from './key.ts'
import { LatestSearch } from './latest-search.ts'
import { LeasePlan, type LeaseTask, type Share } from './lease-plan.ts'
import {
  ANSWERS_WANTED,
  DEFAULT_HOLDER_BYTES,
  LOOKUP_TIMEOUT_MS,
  MAX_KEEP_TTL_MS,
  MAX_RUNNING_TTL_MS,
  REPLICAS_WANTED
} from './limits.ts'
import { owned, TABLE } from './messages.ts'
import { MissingPeers } from './missing-peers.ts'
import { OwnLeases } from './own-leases.ts'
import { OwnReplicas } from './own-replicas.ts'
import { pollHolders } from './poll-holders.ts'
import type { Pseudonyms } from './pseudonyms.ts'
import type { ReplicaRecord } from './replica-record.ts'
import type { CloserPeer, Routing } from './routing.ts'
import { countSharers, type SharerCount } from './sharer-count.ts'

export type { PutAnswer } from './holder-circle.ts'
export type { Share } from './lease-plan.ts'
export type { SharerCount } from './sharer-count.ts'

export interface DirectoryComponents {
  network: DirectoryNetwork
  routing: Routing
  catalog: Catalog
  memory: ApplianceMemory
  clock: Clock
  random: Random
  log: Log
  /** This peer's own key: signs its replica records. */
  privateKey: PrivateKey
  /** Where this peer can be reached, as multiaddrs. */
  addresses: () => string[]
  /** The names under which it shares. */
  pseudonyms: Pseudonyms
  /** Replicas of an image that it is connected with; none if absent. */
  replicas?: (image: string) => CloserPeer[]
}

export interface DirectorySettings {
  replicaTtlMs: number
  /** How long a lease holds after this peer was last heard of, while a machine runs; a day at most. */
  sharerTtlMs: number
  /** The same while a machine with layers of its own exists; 90 days at most. */
  keepTtlMs: number
  /** Whether this peer keeps records for others. */
  serve: boolean
  /** What it keeps, at most; default DEFAULT_HOLDER_BYTES. */
  holderBytes?: number
  /** How long to look for the closest peers; default LOOKUP_TIMEOUT_MS. */
  lookupTimeoutMs?: number
}

export interface LatestAnswer {
  /** The newest record offered, if the release rules let it pass. It may have expired: that is the caller's to judge. */
  latest?: VerifiedLatest
  /** Replicas of its images. */
  replicas: ReplicaRecord[]
  /** The holders that were asked; none if nobody was found. */
  asked: string[]
  answered: number
  elapsedMs: number
  /** Records that the release rules refused, with the holder that offered them. */
  refused: { peer: string; code: ErrorCode; message: string }[]
  /** Holders that did not answer. */
  failed: { peer: string; code: ErrorCode; message: string }[]
}

export class Directory {
  readonly #components: DirectoryComponents
  readonly #settings: DirectorySettings
  readonly #self: string
  readonly #service: DirectoryService
  readonly #circle: HolderCircle
  readonly #own: OwnReplicas
  readonly #plan: AnnouncePlan
  readonly #announcer: Announcer<Announcement>
  readonly #leasePlan: LeasePlan
  readonly #missing: MissingPeers
  readonly #leases: OwnLeases
  readonly #sharer: Announcer<LeaseTask>
  readonly #stopped = new AbortController()

  constructor(components: DirectoryComponents, settings: DirectorySettings) {
    const { network, routing, memory, catalog, clock, random, log, privateKey, addresses } = components
    this.#components = components
    this.#settings = settings
    this.#self = network.peerId.toString()
    const { holderBytes = DEFAULT_HOLDER_BYTES, lookupTimeoutMs = LOOKUP_TIMEOUT_MS, serve, replicaTtlMs } = settings
    this.#service = new DirectoryService({
      network,
      holder: new Holder({ random }, { quotaBytes: holderBytes }),
      store: new HolderStore({ catalog, log }),
      dialBack: new DialBack({ network, clock, log }),
      clock,
      log
    })
    const client = new DirectoryClient({ network, clock })
    const stopped = this.#stopped.signal
    this.#circle = new HolderCircle(
      { routing, client, service: this.#service, clock, stopped },
      { self: this.#self, serve, lookupTimeoutMs }
    )
    this.#own = new OwnReplicas({ circle: this.#circle, memory, catalog, clock, log, privateKey, addresses })
    this.#plan = new AnnouncePlan({ random }, { ttlMs: replicaTtlMs })
    const announce = (what: Announcement, signal: AbortSignal) => this.#own.announce(what, replicaTtlMs, signal)
    this.#announcer = new Announcer({ plan: this.#plan, announce, clock, log })
    const ttls = {
      runningTtlMs: Math.min(settings.sharerTtlMs, MAX_RUNNING_TTL_MS),
      keepTtlMs: Math.min(settings.keepTtlMs, MAX_KEEP_TTL_MS)
    }
    const { pseudonyms, replicas = () => [] } = components
    const plan = new LeasePlan({ random }, ttls)
    this.#leasePlan = plan
    this.#missing = new MissingPeers()
    this.#leases = new OwnLeases(
      { circle: this.#circle, plan, pseudonyms, replicas, catalog, clock, random, log },
      ttls
    )
    const share = (task: LeaseTask, signal: AbortSignal) => this.#leases.run(task, signal)
    this.#sharer = new Announcer({ plan, announce: share, clock, log })
  }

  async start(): Promise<void> {
    await this.#own.start()
    await this.#leases.start()
    if (this.#settings.serve) await this.#service.start()
    this.#announcer.start()
    this.#sharer.start()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#announcer.stop()
    await this.#sharer.stop()
    if (this.#settings.serve) await this.#service.stop()
  }

  /**
   * Puts a sealed record to the holders of its appliance.
   *
   * @throws what openLatest and ApplianceMemory.accept throw: a record that this peer itself would refuse is not put
   */
  async putLatest(bytes: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<PutAnswer> {
    const latest = await openLatest(bytes)
    await this.#components.memory.accept(latest, this.#components.clock.now())
    const put = { table: TABLE.latest, record: owned(bytes) }
    return this.#circle.put(kadKey('latest', latest.appliance), put, options.signal)
  }

  /** Looks for the newest record of an appliance. Never throws for want of an answer: see LatestAnswer. */
  async findLatest(appliance: string, options: { signal?: AbortSignal } = {}): Promise<LatestAnswer> {
    const { clock, memory, random } = this.#components
    const startedMs = clock.monotonicMs()
    const search = new LatestSearch({ memory, now: () => clock.now() }, { appliance })
    const holders = await this.#circle.toAsk(kadKey('latest', appliance), options.signal)
    const poll = await pollHolders(
      holders,
      (holder, signal) => search.consult(holder.peer, request => this.#circle.ask(holder, request, signal)),
      answered => search.isEnough(answered, holders.length),
      this.#circle.signal(options.signal)
    )
    const latest = search.result()
    const images = new Set(latest?.releases.map(release => release.image))
    const { replicas } = await search.replicas.open(
      record => record.peer !== this.#self && images.has(record.image),
      clock.now(),
      random
    )
    return {
      ...(latest === undefined ? {} : { latest }),
      replicas,
      ...poll,
      elapsedMs: clock.monotonicMs() - startedMs,
      refused: [...search.refused]
    }
  }

  /** Looks for peers that serve an image, other than this one; those that a holder has reached come first. */
  async findReplicas(image: string, options: { signal?: AbortSignal } = {}): Promise<ReplicaRecord[]> {
    const { clock, random, log } = this.#components
    const found = new FoundReplicas()
    const holders = await this.#circle.toAsk(kadKey('replicas', image), options.signal)
    const request = { replicas: { image: owned(fromHex(image)) } }
    const poll = await pollHolders(
      holders,
      async (holder, signal) => {
        const { response, met } = await this.#circle.ask(holder, request, signal)
        found.add(response.replicas?.replicas ?? [], { peer: holder.peer, met })
      },
      answered => answered >= Math.min(ANSWERS_WANTED, holders.length) && found.size >= REPLICAS_WANTED,
      this.#circle.signal(options.signal)
    )
    const mine = (record: ReplicaRecord) => record.peer === this.#self
    const { replicas, bad } = await found.open(record => record.image === image && !mine(record), clock.now(), random)
    log.debug('looked for replicas', {
      image,
      found: replicas.length,
      bad,
      answered: poll.answered,
      failed: poll.failed
    })
    return replicas
  }

  /**
   * From now on this peer is kept announced as a replica of the image, wholly or partly; with an appliance also there,
   * where the newest record of the appliance is put again too. Throws LIMIT_EXCEEDED with too many.
   */
  announceReplica(image: string, appliance: string | undefined, complete: boolean): void {
    this.#plan.add(image, appliance, complete, this.#components.clock.monotonicMs())
    this.#announcer.wake()
  }

  /** How this peer is announced as a replica of the image; undefined if it is not, or has no address to announce. */
  announced(image: string): { complete: boolean } | undefined {
    return this.#components.addresses().length === 0 ? undefined : this.#plan.get(image)
  }

  /** No longer; the holders are told, once, as well as they can be reached. */
  withdrawReplica(image: string): void {
    for (const announcement of this.#plan.remove(image)) {
      this.#own
        .announce(announcement, 0, this.#stopped.signal)
        .catch(error => this.#components.log.debug('a withdrawal failed', { image, error: String(error) }))
    }
  }

  /**
   * All releases that this peer uses, in place of those that it used before: it says so from now on, and gives back
   * what is no longer among them. What is in use at `start` is to be told before: leases from an earlier run that are
   * not in use then are given back. Throws LIMIT_EXCEEDED with too many.
   */
  shareReleases(shares: readonly Share[]): void {
    this.#leasePlan.share(shares, this.#components.clock.monotonicMs())
    this.#sharer.wake()
  }

  /** Leases of this peer on these images, to be passed to a replica of them. */
  leasesFor(images: readonly string[]): Uint8Array[] {
    return this.#leases.offer(images)
  }

  /** Takes in a lease of another peer that did not come as a request. */
  async takeLease(bytes: Uint8Array): Promise<void> {
    if (this.#settings.serve) await this.#service.keepLease(bytes)
  }

  /** Asks who uses a release, `PUBLISHER/NAME@VERSION`. Never throws for want of an answer: see SharerCount. */
  async countSharers(
    release: string,
    options: { replicas?: readonly CloserPeer[]; signal?: AbortSignal } = {}
  ): Promise<SharerCount> {
    const { clock } = this.#components
    return countSharers(release, { circle: this.#circle, missing: this.#missing, clock, self: this.#self }, options)
  }

  /**
   * What is here of an image has changed: all of it, a part, or nothing any more. If it is announced, its holders are told
   * now; if it is not, it stays so.
   */
  amendReplica(image: string, here: 'all' | 'part' | 'nothing'): void {
    if (!this.#plan.has(image)) return
    if (here === 'nothing') this.withdrawReplica(image)
    else this.announceReplica(image, undefined, here === 'all')
  }

  /** This peer's addresses have changed: everything is announced again. */
  addressesChanged(): void {
    this.#plan.renewAll(this.#components.clock.monotonicMs())
    this.#announcer.wake()
  }
}
