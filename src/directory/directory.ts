/**
 * The directory: who has released what, and who serves it.
 *
 * Records live on the HOLDERS_PER_KEY peers closest to their key. kad-dht finds those peers; its own records are not
 * used, because they have one time to live for all, let an older value overwrite a newer one, and let one stale
 * provider spoil an answer. What a holder keeps and says is holder.ts and directory-service.ts; what a client believes
 * is appliance-memory.ts and latest-search.ts; this class puts them together.
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
import { ANSWERS_WANTED, DEFAULT_HOLDER_BYTES, LOOKUP_TIMEOUT_MS, REPLICAS_WANTED } from './limits.ts'
import { owned, TABLE } from './messages.ts'
import { OwnReplicas } from './own-replicas.ts'
import { pollHolders } from './poll-holders.ts'
import type { ReplicaRecord } from './replica-record.ts'
import type { Routing } from './routing.ts'

export type { PutAnswer } from './holder-circle.ts'

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
}

export interface DirectorySettings {
  replicaTtlMs: number
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
  readonly #announcer: Announcer
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
  }

  async start(): Promise<void> {
    await this.#own.start()
    if (this.#settings.serve) await this.#service.start()
    this.#announcer.start()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#announcer.stop()
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

  /** No longer; the holders are told, once, as well as they can be reached. */
  withdrawReplica(image: string): void {
    for (const announcement of this.#plan.remove(image)) {
      this.#own
        .announce(announcement, 0, this.#stopped.signal)
        .catch(error => this.#components.log.debug('a withdrawal failed', { image, error: String(error) }))
    }
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
