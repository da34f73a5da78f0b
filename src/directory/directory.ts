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
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'
import { REACH } from './addresses.ts'
import { type Announcement, AnnouncePlan } from './announce-plan.ts'
import { Announcer } from './announcer.ts'
import type { ApplianceMemory } from './appliance-memory.ts'
import { withDeadline } from './deadline.ts'
import { DialBack } from './dial-back.ts'
import { DirectoryClient, type HolderAnswer } from './directory-client.ts'
import type { DirectoryNetwork } from './directory-network.ts'
import { DirectoryService } from './directory-service.ts'
import { FoundReplicas } from './found-replicas.ts'
import { Holder } from './holder.ts'
import { HolderStore } from './holder-store.ts'
import { kadKey } from './key.ts'
import { LatestSearch } from './latest-search.ts'
import { ANSWERS_WANTED, DEFAULT_HOLDER_BYTES, LOOKUP_TIMEOUT_MS, REPLICAS_WANTED } from './limits.ts'
import { type DirectoryRequest, owned, TABLE } from './messages.ts'
import { pollHolders } from './poll-holders.ts'
import { type ReplicaRecord, sealReplica } from './replica-record.ts'
import type { CloserPeer, Routing } from './routing.ts'

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

export interface PutAnswer {
  asked: number
  kept: number
  /** For each holder that does not keep it, who and why. */
  refused: string[]
}

/** Outcomes after which a record of ours is where it should be, or will be. */
const SETTLED = new Set(['kept', 'known', 'pending', 'older', 'withdrawn'])

export class Directory {
  readonly #components: DirectoryComponents
  readonly #settings: DirectorySettings
  readonly #self: string
  readonly #client: DirectoryClient
  readonly #service: DirectoryService
  readonly #plan: AnnouncePlan
  readonly #announcer: Announcer
  readonly #sequences: Table<number>
  readonly #stopped = new AbortController()
  #lastSequence = 0

  constructor(components: DirectoryComponents, settings: DirectorySettings) {
    const { network, catalog, clock, random, log } = components
    this.#components = components
    this.#settings = settings
    this.#self = network.peerId.toString()
    this.#client = new DirectoryClient({ network, clock })
    this.#service = new DirectoryService({
      network,
      holder: new Holder({ random }, { quotaBytes: settings.holderBytes ?? DEFAULT_HOLDER_BYTES }),
      store: new HolderStore({ catalog, log }),
      dialBack: new DialBack({ network, clock, log }),
      clock,
      log
    })
    this.#plan = new AnnouncePlan({ random }, { ttlMs: settings.replicaTtlMs })
    this.#announcer = new Announcer({
      plan: this.#plan,
      announce: (what, signal) => this.#announce(what, signal),
      clock,
      log
    })
    this.#sequences = catalog.table('directory', jsonCodec<number>())
  }

  async start(): Promise<void> {
    this.#lastSequence = (await this.#sequences.get('replica-sequence')) ?? 0
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
    const holders = await this.#holders(kadKey('latest', latest.appliance), options.signal)
    return this.#put(holders, put, options.signal)
  }

  /** Looks for the newest record of an appliance. Never throws for want of an answer: see LatestAnswer. */
  async findLatest(appliance: string, options: { signal?: AbortSignal } = {}): Promise<LatestAnswer> {
    const { clock, memory, random } = this.#components
    const startedMs = clock.monotonicMs()
    const search = new LatestSearch({ memory, now: () => clock.now() }, { appliance })
    const holders = this.#withSelf(await this.#holders(kadKey('latest', appliance), options.signal))
    const poll = await pollHolders(
      holders,
      (holder, signal) => search.consult(holder.peer, request => this.#ask(holder, request, signal)),
      answered => search.isEnough(answered, holders.length),
      this.#signal(options.signal)
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
      refused: search.refused
    }
  }

  /** Looks for peers that serve an image, other than this one; those that a holder has reached come first. */
  async findReplicas(image: string, options: { signal?: AbortSignal } = {}): Promise<ReplicaRecord[]> {
    const { clock, random, log } = this.#components
    const found = new FoundReplicas()
    const holders = this.#withSelf(await this.#holders(kadKey('replicas', image), options.signal))
    const request = { replicas: { image: owned(fromHex(image)) } }
    const poll = await pollHolders(
      holders,
      async (holder, signal) => {
        const { response, met } = await this.#ask(holder, request, signal)
        found.add(response.replicas?.replicas ?? [], { peer: holder.peer, met })
      },
      answered => answered >= Math.min(ANSWERS_WANTED, holders.length) && found.size >= REPLICAS_WANTED,
      this.#signal(options.signal)
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
      this.#announce(announcement, this.#stopped.signal, 0).catch(error =>
        this.#components.log.debug('a withdrawal failed', { image, error: String(error) })
      )
    }
  }

  /** This peer's addresses have changed: everything is announced again. */
  addressesChanged(): void {
    this.#plan.renewAll(this.#components.clock.monotonicMs())
    this.#announcer.wake()
  }

  /** Puts this peer's replica record to one key's holders; at an appliance's, evens out `latest` on the way. */
  async #announce(
    what: Announcement,
    signal: AbortSignal,
    ttlMs = this.#settings.replicaTtlMs
  ): Promise<{ asked: number; kept: number }> {
    const { appliance, image } = what
    const record = await this.#sealOwn(what, ttlMs)
    if (record === undefined) return { asked: 0, kept: 0 }
    const put = { table: TABLE.replicas, record: owned(record) }
    const key = appliance === undefined ? kadKey('replicas', image) : kadKey('latest', appliance)
    const holders = await this.#holders(key, signal)
    const { asked, kept } = await this.#put(holders, put, signal, appliance)
    return { asked, kept }
  }

  /** Undefined while this peer has no address to announce. */
  async #sealOwn(what: Announcement, ttlMs: number): Promise<Uint8Array | undefined> {
    const { clock, privateKey, addresses, log } = this.#components
    const own = addresses()
    if (own.length === 0) return undefined
    const sequence = Math.max(clock.now(), this.#lastSequence + 1)
    this.#lastSequence = sequence
    // Written behind: after a loss the clock gives a higher number, unless it was set back.
    this.#sequences
      .put('replica-sequence', sequence)
      .catch(error => log.warn('the last sequence number could not be written down', { error: String(error) }))
    const expiresMs = clock.now() + ttlMs
    const { image, complete } = what
    return sealReplica({ image, peer: this.#self, addresses: own, complete, sequence, expiresMs }, privateKey)
  }

  async #put(
    holders: CloserPeer[],
    put: { table: number; record: Uint8Array<ArrayBuffer> },
    parent: AbortSignal | undefined,
    appliance?: string
  ): Promise<PutAnswer> {
    let kept = 0
    const refused: string[] = []
    const poll = await pollHolders(
      holders,
      async (holder, signal) => {
        const latest = appliance === undefined ? undefined : this.#latestQuery(appliance)
        const request = { puts: [put], ...(latest === undefined ? {} : { latest }) }
        const { response } = await this.#ask(holder, request, signal)
        const outcome = response.outcomes[0] ?? 'no outcome'
        if (isKept(put.table, outcome)) kept++
        else refused.push(`${holder.peer}: ${outcome}`)
        if (appliance !== undefined) await this.#evenOut(appliance, holder, response.latest, signal)
      },
      () => false,
      this.#signal(parent)
    )
    return {
      asked: poll.asked.length,
      kept,
      refused: [...refused, ...poll.failed.map(failure => `${failure.peer}: ${failure.code}`)]
    }
  }

  /** A holder has an older record than ours, or none: it gets ours. It has a newer one: we take it. */
  async #evenOut(
    appliance: string,
    holder: CloserPeer,
    theirs: HolderAnswer['response']['latest'],
    signal: AbortSignal
  ): Promise<void> {
    const { memory, clock, log } = this.#components
    if (theirs === undefined || theirs.same || theirs.conflict) return
    if (theirs.record.byteLength > 0) {
      try {
        const offered = await openLatest(theirs.record)
        if (offered.appliance === appliance) await memory.accept(offered, clock.now())
      } catch (error) {
        log.debug('a holder has a record that is refused here', { peer: holder.peer, appliance, error: String(error) })
      }
    }
    const mine = memory.get(appliance)?.latest
    if (mine === undefined || mine.expiresMs <= clock.now()) return
    if (Buffer.compare(mine.bytes, theirs.record) === 0) return
    await this.#ask(holder, { puts: [{ table: TABLE.latest, record: owned(mine.bytes) }] }, signal)
  }

  #latestQuery(appliance: string): NonNullable<DirectoryRequest['latest']> {
    const known = this.#components.memory.get(appliance)?.latest
    const knownDigest = owned(known === undefined ? new Uint8Array(0) : Buffer.from(known.digest, 'hex'))
    return { appliance, knownDigest, second: false }
  }

  #ask(holder: CloserPeer, request: Partial<DirectoryRequest>, signal: AbortSignal): Promise<HolderAnswer> {
    if (holder.peer !== this.#self) return this.#client.ask(holder, request, { signal })
    const asker = { peer: this.#self, met: REACH.loopback }
    return this.#service.answer({ puts: [], ...request }, asker).then(response => ({ response, met: REACH.loopback }))
  }

  async #holders(key: Uint8Array, parent: AbortSignal | undefined): Promise<CloserPeer[]> {
    const { routing, clock } = this.#components
    const timeoutMs = this.#settings.lookupTimeoutMs ?? LOOKUP_TIMEOUT_MS
    // The search gives what it has when time is up, so the signal is its own and not withDeadline's.
    const expired = new AbortController()
    const timer = clock.after(timeoutMs, () => expired.abort())
    try {
      const signal = AbortSignal.any([this.#signal(parent), expired.signal])
      const closest = await routing.closestPeers(key, { signal })
      return closest.filter(({ peer }) => peer !== this.#self || this.#settings.serve)
    } finally {
      timer.cancel()
    }
  }

  /** This peer's own holder costs nothing to ask, close to the key or not. */
  #withSelf(holders: CloserPeer[]): CloserPeer[] {
    if (!this.#settings.serve || holders.some(holder => holder.peer === this.#self)) return holders
    return [{ peer: this.#self, addresses: [] }, ...holders]
  }

  #signal(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#stopped.signal : AbortSignal.any([signal, this.#stopped.signal])
  }
}

function isKept(table: number, outcome: string): boolean {
  // An older replica record than the one there is ours all the same; an older `latest` is not.
  if (table === TABLE.latest) return outcome === 'kept' || outcome === 'known'
  return SETTLED.has(outcome)
}
