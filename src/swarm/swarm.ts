/**
 * The swarm: blocks from whoever has them, and for whoever asks.
 *
 * The parts and the way of one block:
 *
 *     want ─> ImageFetch (who waits; proves what comes) ─> FetchEngine (clock) ─> Scheduler (policy)
 *                 ^   │                                        │ asks
 *                 │   └─> BlockStore ─> pool                   v
 *                 └────────────────────────────────── ReplicaClient <── wire ──> ServedRequester <─ BlockServer
 *                                                          ^
 *     find-replicas ─> ReplicaLinks (known replicas, dialling, the directory) ┘
 *
 * What comes from replicas finds its image through ReplicaNews.
 *
 * Here they are put together, and images get their numbers. One long-lived stream for each pair of peers and direction of request.
 *
 * Owns: all connections of the protocol. Does not own: the libp2p peer, the pool, the images.
 */

import type { ReplicaRecord } from '../directory/replica-record.ts'
import { RowanError } from '../errors.ts'
import { type BlockSource, type ObtainedBlock, PRIORITIES, type Priority } from '../store/block-source.ts'
import type { LocalImage } from '../store/images.ts'
import type { Mark } from '../timeline.ts'
import { BlockBuffers } from './block-buffers.ts'
import { BlockServer, type ServedPeer } from './block-server.ts'
import { BlockStore } from './block-store.ts'
import { BootAhead } from './boot-ahead.ts'
import { Dialer } from './dialer.ts'
import { FetchEngine } from './fetch-engine.ts'
import { type FillOptions, fillImage } from './fill.ts'
import type { ReplicaHint } from './known-replicas.ts'
import { MAX_OPEN_IMAGES, OPEN_TIMEOUT_MS } from './limits.ts'
import type { Rank } from './messages.ts'
import { ReplicaLinks } from './replica-links.ts'
import { ReplicaNews } from './replica-news.ts'
import type { SwarmComponents, SwarmPeer, SwarmSettings } from './swarm-components.ts'
import { SwarmImage } from './swarm-image.ts'
import { type TrafficLimits, UNLIMITED_TRAFFIC } from './traffic-limits.ts'
import type { ImageTransfers } from './transfer-count.ts'
import { WebSeeds } from './web-seeds.ts'

export type { ServedPeer } from './block-server.ts'
export type { AheadView, BootAhead } from './boot-ahead.ts'
export type { RecordExchange } from './greeting.ts'
export type { ReplicaHint } from './known-replicas.ts'
export type { ProfileExchange, SwarmComponents, SwarmPeer, SwarmSettings } from './swarm-components.ts'
export type { TrafficLimits } from './traffic-limits.ts'
export type { ImageTransfers, Transferred } from './transfer-count.ts'
export { isWebSeed } from './web-seeds.ts'

/** While an image cannot be opened, its replicas are looked for this often. */
const OPENING_SEEK_MS = 500
/** While blocks of an image are waited for, more replicas of it are looked for this often. */
const SEEK_MS = 15_000

export class Swarm implements BlockSource {
  readonly #components: SwarmComponents
  readonly #images = new Map<string, SwarmImage>()
  readonly #numbers: SwarmImage[] = []
  readonly #engine: FetchEngine
  readonly #store: BlockStore
  readonly #links: ReplicaLinks
  readonly #news: ReplicaNews
  readonly #web: WebSeeds | undefined
  readonly #server: BlockServer
  readonly #stopListening: () => void
  /** Whether neighbours may have blocks fetched: not where every byte counts. */
  #helps = true
  #stopped: RowanError | undefined

  constructor(components: SwarmComponents, settings: SwarmSettings) {
    const { network, images, pool, findReplicas, neighbours = () => [], records, clock, log } = components
    const { mayDial = () => true, isNear = () => false, isDonated = () => true } = components
    this.#components = components
    const buffers = new BlockBuffers()
    this.#store = new BlockStore({ pool, buffers, log, clock })
    this.#engine = new FetchEngine({
      ...{ self: network.peerId.toString(), clock, log, records, buffers, liars: components.liars },
      findReplicas: image => this.#findReplicas(this.#numbers[image]!),
      accused: peer => components.profiles?.disown(peer),
      redial: peer => void this.#links.redial(peer)
    })
    this.#news = new ReplicaNews({
      ...{ images, engine: this.#engine, profiles: components.profiles, clock, log },
      image: number => this.#numbers[number]!,
      all: () => this.#images.values(),
      opened: (image, local) => this.#opened(image, local),
      busy: (peer, others, retryAfterMs) => {
        const hints = others.map(other => ({ ...other, complete: false }))
        this.#links.busy(peer, hints, retryAfterMs)
      }
    })
    this.#links = new ReplicaLinks(
      {
        dialer: new Dialer({ network, mayDial, isNear, clock }),
        engine: this.#engine,
        findReplicas,
        neighbours,
        events: peer => this.#news.from(peer),
        self: network.peerId.toString(),
        clock,
        log
      },
      settings
    )
    if (components.web !== undefined) {
      const idOf = (image: number) => this.#numbers[image]!.id
      const events = (peer: string) => this.#news.from(peer)
      this.#web = new WebSeeds({ ...components.web, engine: this.#engine, idOf, events, clock, log })
    }
    this.#server = new BlockServer(
      {
        libp2p: network,
        images,
        pool,
        records,
        profileOf: image => components.profiles?.toShare(image),
        others: (image, except) => this.#images.get(image)?.known.hints(except) ?? [],
        rttMs: peer => this.#engine.baseRttMs(peer),
        openedImage: id => this.#images.get(id)?.fetch?.image,
        helperOf: id => (this.#helps ? this.#images.get(id)?.onBehalf : undefined),
        ...{ isNear, isDonated },
        clock,
        log
      },
      settings
    )
    this.limit({ ...UNLIMITED_TRAFFIC, ...settings.limits })
    const stops = [
      images.onLost(({ id }, pages) => this.#server.noteLost(id, pages)),
      images.onClosed(({ id }) => this.forget(id))
    ]
    this.#stopListening = () => {
      for (const stop of stops) stop()
    }
  }

  /** From now on; what is under way is finished. */
  limit(limits: TrafficLimits): void {
    this.#helps = !limits.quiet && limits.maxDownloadBytesPerSecond === Number.POSITIVE_INFINITY
    this.#engine.limit(limits)
    this.#server.limit(limits)
    this.#server.noteUse()
  }

  /** Serves from now on. Fetching works before, too. */
  async start(): Promise<void> {
    await this.#server.start()
    this.#seekMore()
  }

  /** Ends all connections; whoever waits for a block gets DISK_CLOSED. */
  async stop(): Promise<void> {
    if (this.#stopped !== undefined) return
    this.#stopped = new RowanError('DISK_CLOSED', 'the swarm stops')
    this.#stopListening()
    for (const image of this.#images.values()) image.stop(this.#stopped)
    this.#links.stop()
    this.#web?.stop()
    this.#engine.stop()
    await this.#server.stop()
  }

  /**
   * The image, from here if its root is here, else from a replica: its root, and the top of its index.
   *
   * @param hints - replicas to ask first
   * @throws NO_REPLICA, with whom it asked, when nobody gave it within `timeoutMs` (30 s); ABORTED, DISK_CLOSED; DISK_FULL or
   *   STORE_IO when it cannot be kept
   */
  async openImage(
    id: string,
    hints: ReplicaHint[] = [],
    options: { signal?: AbortSignal; timeoutMs?: number } = {}
  ): Promise<LocalImage> {
    const image = this.#imageOf(id)
    for (const hint of hints) image.known.add(hint)
    const local = await this.#components.images.open(id)
    if (local !== undefined) {
      const fetch = this.#opened(image, local)
      // Early, because connecting takes many round trips.
      if (!fetch.image.complete) this.#links.seek(image)
      return local
    }
    return this.#waitForRoot(image, options.timeoutMs ?? OPEN_TIMEOUT_MS, options.signal)
  }

  /** See BlockSource. A block of an image that is not open yet opens it first, however long that takes. */
  async want(
    id: string,
    block: number,
    priority: Priority,
    options: { signal?: AbortSignal } = {}
  ): Promise<ObtainedBlock> {
    const { signal } = options
    const rank = PRIORITIES.indexOf(priority) as Rank
    const image = this.#images.get(id)
    if (image?.fetch !== undefined) return image.fetch.want(block, rank, signal)
    await this.openImage(id, [], { timeoutMs: Number.POSITIVE_INFINITY, ...(signal && { signal }) })
    return this.#images.get(id)!.fetch!.want(block, rank, signal)
  }

  /**
   * Completes an image, waiting for replicas as long as it takes. What it fetched survives power loss only after Pool.sync().
   *
   * @throws POOL_FULL, DISK_FULL or STORE_IO when a block cannot be kept, and then keeps what it has; ABORTED, DISK_CLOSED
   */
  async fill(id: string, options: FillOptions = {}): Promise<void> {
    const { signal } = options
    await this.openImage(id, [], { timeoutMs: Number.POSITIVE_INFINITY, ...(signal && { signal }) })
    const done = this.#use(this.#images.get(id)!)
    try {
      await fillImage(this.#images.get(id)!.fetch!, options)
    } finally {
      done()
    }
  }

  /**
   * Fetches ahead of a guest at an open image (see boot-ahead.ts), for one disk.
   *
   * @throws as openImage, for an image whose root is not here
   */
  async ahead(id: string): Promise<BootAhead> {
    await this.openImage(id)
    const image = this.#images.get(id)!
    return new BootAhead(image.fetch!, this.#components.log, this.#use(image))
  }

  /** Replicas that somebody heard of. Called when they are needed. */
  addReplicas(id: string, replicas: (ReplicaHint | ReplicaRecord)[]): void {
    const image = this.#imageOf(id)
    for (const replica of replicas) image.known.add(replica)
    if (image.isNeeded()) this.#links.seek(image)
  }

  /** What was fetched of an image since the start. */
  transfers(id: string): ImageTransfers {
    return this.#images.get(id)?.count.view() ?? { blocks: 0, bytes: 0, wireBytes: 0, perPeer: {} }
  }

  /** How the first blocks of an image came here, from the last `restartLine` on. */
  line(id: string): readonly Mark[] {
    return this.#images.get(id)?.line.marks ?? []
  }

  /** Somebody begins to use an image: what is told from now on is about that. */
  restartLine(id: string): void {
    this.#imageOf(id).line.restart()
  }

  /** What is waited for, by rank: demand, read-ahead, profile, fill. */
  waiting(id: string): number[] {
    return this.#images.get(id)?.fetch?.waiting ?? [0, 0, 0, 0]
  }

  /** Connected peers, whether they serve this one, or are served, or both. */
  peers(): SwarmPeer[] {
    const peers = new Map<string, SwarmPeer>()
    for (const { peer, images, rttMs, rateBytesPerSecond, outstanding } of this.#engine.view()) {
      const ids = images.map(number => this.#numbers[number]?.id).filter(id => id !== undefined)
      peers.set(peer, { peer, images: ids, rttMs, rateBytesPerSecond, outstanding, servedBytes: 0 })
    }
    for (const { peer, servedBytes } of this.#server.view()) {
      const known = peers.get(peer)
      if (known !== undefined) known.servedBytes = servedBytes
      else
        peers.set(peer, {
          peer,
          images: [],
          rttMs: undefined,
          rateBytesPerSecond: undefined,
          outstanding: 0,
          servedBytes
        })
    }
    return [...peers.values()]
  }

  /** Those whom this peer serves: what they got, what they wait for, and what their streams have not taken. */
  served(): ServedPeer[] {
    return this.#server.view()
  }

  /**
   * Lets go of an image that is to be forgotten here; one that comes again later is opened anew.
   *
   * @returns whether it could: not while somebody waits for its blocks
   */
  forget(id: string): boolean {
    const image = this.#images.get(id)
    if (image === undefined) return true
    if (image.isNeeded()) return false
    for (const { peer } of this.#engine.view()) this.#engine.client(peer)?.release(image.number)
    image.close(new RowanError('DISK_CLOSED', `the image ${id} is not kept any more`))
    return true
  }

  #imageOf(id: string): SwarmImage {
    if (this.#stopped !== undefined) throw this.#stopped
    const known = this.#images.get(id)
    if (known !== undefined) return known
    if (this.#images.size >= MAX_OPEN_IMAGES) {
      throw new RowanError('LIMIT_EXCEEDED', `more than ${MAX_OPEN_IMAGES} images are being fetched`)
    }
    const image = new SwarmImage(id, this.#numbers.length, this.#components.random, this.#components.clock)
    this.#numbers.push(image)
    this.#images.set(id, image)
    this.#links.add(image)
    return image
  }

  /** From now until the returned function is called, neighbours may have blocks of it fetched. */
  #use(image: SwarmImage): () => void {
    const done = image.use()
    this.#server.noteUse()
    return () => {
      done()
      this.#server.noteUse()
    }
  }

  #opened(image: SwarmImage, local: LocalImage): NonNullable<SwarmImage['fetch']> {
    const isNew = image.fetch === undefined
    const fetch = image.open(local, {
      driver: this.#engine,
      store: this.#store,
      clock: this.#components.clock,
      onStored: block => this.#server.noteStored(image.id, block)
    })
    if (isNew) this.#server.noteOpened(local)
    return fetch
  }

  async #waitForRoot(image: SwarmImage, timeoutMs: number, signal: AbortSignal | undefined): Promise<LocalImage> {
    const { clock } = this.#components
    const deadlineMs = clock.monotonicMs() + timeoutMs
    for (;;) {
      if (image.fetch !== undefined) return image.fetch.image
      if (this.#stopped !== undefined) throw this.#stopped
      if (signal?.aborted) throw new RowanError('ABORTED', `the image ${image.id} is not wanted any more`)
      const leftMs = deadlineMs - clock.monotonicMs()
      if (leftMs <= 0) {
        const asked = image.known.summary()
        throw new RowanError('NO_REPLICA', `no replica gave the image ${image.id} in ${timeoutMs / 1000} s: ${asked}`)
      }
      this.#findReplicas(image)
      await image.change(clock, Math.min(leftMs, OPENING_SEEK_MS), signal)
    }
  }

  /** Nobody who is connected can give what is wanted. */
  #findReplicas(image: SwarmImage): void {
    this.#links.seek(image)
    this.#web?.needed(image)
  }

  #seekMore(): void {
    this.#components.clock.after(SEEK_MS, () => {
      if (this.#stopped !== undefined) return
      for (const image of this.#images.values()) if (image.isNeeded()) this.#links.seek(image)
      this.#seekMore()
    })
  }
}
