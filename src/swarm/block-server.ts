/**
 * The serving side: whoever asks gets blocks of the images that are here, full or partial, as far as the limits allow.
 *
 * All requesters share one queue (upload-queue.ts), one upload rate and a few reads at a time. The rate is of all that is large: blocks,
 * and the index, which somebody could ask for over and over. A block is read and hashed just before
 * it is sent (block-reader.ts), so a rotten disk never makes this peer a liar. Nothing is read for a requester whose stream does not take it: what a
 * requester can tie up here is a window of its muxer, and no more.
 *
 * A requester above the number of places, or above what one network may have of them, gets BUSY with other replicas' addresses, once it
 * said which image it wants.
 */

import type { Connection, Stream } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import { crowdOf } from '../directory/addresses.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type LocalImage, ZERO } from '../store/images.ts'
import { BlockReader, type BlockReaderComponents } from './block-reader.ts'
import { CompressedCache } from './compression.ts'
import type { RecordExchange } from './greeting.ts'
import {
  COMPRESSED_CACHE_BYTES,
  GREETING_TIMEOUT_MS,
  HAVE_INTERVAL_MS,
  IDLE_STREAM_MS,
  MAX_NETWORK_SHARE,
  MAX_READS_AT_ONCE,
  MIN_PLACES_PER_NETWORK,
  NEAR_HAVE_INTERVAL_MS
} from './limits.ts'
import { busyFrame, type PeerHint, type Rank } from './messages.ts'
import { NEAR_RTT_MS } from './neighbours.ts'
import { type FetchedOnBehalf, OnBehalf } from './on-behalf.ts'
import type { BlockRead } from './outgoing-blocks.ts'
import { carriesBlocks } from './relayed.ts'
import { itemOf } from './scheduler-types.ts'
import { ServedRequester, type UploadJob } from './served-requester.ts'
import { TokenBucket } from './token-bucket.ts'
import type { TrafficLimits } from './traffic-limits.ts'
import { UploadQueue } from './upload-queue.ts'

/** Served without letting anybody else in this process have a turn: about 2 ms. */
const BLOCKS_AT_A_STRETCH = 32
/** Requesters that are connected but have no place (yet). */
const MAX_LOBBY = 64
const BUSY_RETRY_MS = 5_000
/** Whoever serves nobody now is not asked again soon. */
const QUIET_RETRY_MS = 60_000
/** What may go out at once after a silence, in time of the upload rate. */
const BURST_SECONDS = 0.02
const MIN_BURST_BYTES = 64 * 1024
const MAX_RATE_WAIT_MS = 1_000

export interface BlockServerComponents {
  libp2p: {
    handle(
      protocol: string,
      handler: (stream: Stream, connection: Connection) => void,
      options: { maxInboundStreams: number; maxOutboundStreams: number; runOnLimitedConnection: boolean }
    ): Promise<void>
    unhandle(protocol: string): Promise<void>
  }
  images: { open(id: string): Promise<LocalImage | undefined> }
  pool: BlockReaderComponents['pool']
  records: RecordExchange | undefined
  /** The boot profile that a requester of this image is given. */
  profileOf(image: string): Uint8Array | undefined
  /** Other replicas of an image, for a requester that has to go elsewhere. */
  others(image: string, except: string): PeerHint[]
  isNear(address: Multiaddr): boolean
  /** The shortest round trip to a peer that was measured, if any was. */
  rttMs(peer: string): number | undefined
  /** An image that this process has open. */
  openedImage(id: string): LocalImage | undefined
  /** Who fetches blocks of this image for neighbours, if anybody does now. */
  helperOf(id: string): FetchedOnBehalf | undefined
  isDonated(image: string): boolean
  clock: Clock
  log: Log
}

export interface BlockServerSettings {
  /** Requesters that are served at a time. */
  maxPeers: number
}

export interface ServedPeer {
  peer: string
  servedBlocks: number
  /** On the wire. */
  servedBytes: number
  /** Requests that wait. */
  queued: number
  /** Bytes that its stream has not taken. */
  unsentBytes: number
}

export class BlockServer {
  readonly #components: BlockServerComponents
  readonly #settings: BlockServerSettings
  readonly #queue = new UploadQueue<ServedRequester, UploadJob>()
  readonly #onBehalf: OnBehalf<ServedRequester, UploadJob>
  /** `usedMs`: when it was sent something last. */
  readonly #requesters = new Map<ServedRequester, { usedMs: number; greeting: Timer; network: string | undefined }>()
  readonly #reader: BlockReader
  #bucket: TokenBucket | undefined
  #courtesyBucket: TokenBucket | undefined
  #quiet = false
  #reads = 0
  #rateTimer: Timer | undefined
  #newsTimer: Timer | undefined
  #nearNewsTimer: Timer | undefined
  #restTimer: Timer | undefined
  #stopped = false

  constructor(components: BlockServerComponents, settings: BlockServerSettings) {
    this.#components = components
    this.#settings = settings
    const { pool, clock } = components
    this.#reader = new BlockReader({ pool, cache: new CompressedCache(COMPRESSED_CACHE_BYTES, clock), clock })
    this.#onBehalf = new OnBehalf({
      arrived: (requester, key, rank, job) => {
        if (this.#queue.add(requester, key, rank, job)) this.#work()
        else requester.answerMissing(key, 'refused')
      },
      failed: (requester, key) => requester.answerMissing(key, 'refused'),
      clock
    })
  }

  /** From now on. Where it is quiet, requesters from beyond the local network are sent to others. */
  limit({ maxUploadBytesPerSecond, maxCourtesyBytesPerSecond, quiet }: TrafficLimits): void {
    this.#bucket = this.#bucketOf(maxUploadBytesPerSecond)
    this.#courtesyBucket = this.#bucketOf(maxCourtesyBytesPerSecond)
    this.#quiet = quiet
    if (quiet) for (const requester of [...this.#requesters.keys()]) if (!requester.isNear) this.#sendAway(requester)
    this.#rateTimer?.cancel()
    this.#rateTimer = undefined
    this.#work()
  }

  #bucketOf(rate: number): TokenBucket | undefined {
    if (!Number.isFinite(rate)) return undefined
    const burstBytes = Math.max(MIN_BURST_BYTES, rate * BURST_SECONDS)
    return new TokenBucket(rate, burstBytes, this.#components.clock.monotonicMs())
  }

  async start(): Promise<void> {
    await this.#components.libp2p.handle(PROTOCOL.blocks, (stream, connection) => this.#accept(stream, connection), {
      // One is in use; a second may come before the end of the first was noticed.
      maxInboundStreams: 4,
      maxOutboundStreams: 4,
      // #accept looks which relays carry blocks.
      runOnLimitedConnection: true
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#rateTimer?.cancel()
    this.#newsTimer?.cancel()
    this.#nearNewsTimer?.cancel()
    this.#restTimer?.cancel()
    await this.#components.libp2p.unhandle(PROTOCOL.blocks)
    for (const requester of [...this.#requesters.keys()]) requester.end()
  }

  /** A block of a partial image came: whoever has the image open will be told, neighbours sooner than others. */
  noteStored(image: string, block: number): void {
    if (this.#requesters.size === 0) return
    for (const requester of this.#requesters.keys()) requester.noteStored(image, block)
    this.#tellSoon()
  }

  /** Blocks of these pages of an image are not here any more; told like those that come. */
  noteLost(image: string, pages: readonly number[]): void {
    if (this.#requesters.size === 0) return
    for (const requester of this.#requesters.keys()) requester.noteLost(image, pages)
    this.#tellSoon()
  }

  /** An image came here that was not, as far as its root: whoever asked for it before hears of it. */
  noteOpened(image: LocalImage): void {
    for (const requester of this.#requesters.keys()) requester.noteOpened(image)
  }

  /** A disk here began to use an image, or no longer does: neighbours hear whether they are helped. */
  noteUse(): void {
    for (const requester of this.#requesters.keys()) if (this.#isNeighbour(requester)) requester.tellNews()
  }

  /** Those who are served, and what they got. */
  view(): ServedPeer[] {
    return [...this.#requesters.keys()].map(requester => ({
      peer: requester.peer,
      servedBlocks: requester.servedBlocks,
      servedBytes: requester.servedBytes,
      queued: this.#queue.count(requester),
      unsentBytes: requester.unsentBytes
    }))
  }

  #tellSoon(): void {
    const { clock } = this.#components
    this.#newsTimer ??= clock.after(HAVE_INTERVAL_MS, () => {
      this.#newsTimer = undefined
      for (const requester of this.#requesters.keys()) requester.tellNews()
    })
    this.#nearNewsTimer ??= clock.after(NEAR_HAVE_INTERVAL_MS, () => {
      this.#nearNewsTimer = undefined
      for (const requester of this.#requesters.keys()) if (this.#isNeighbour(requester)) requester.tellNews()
    })
  }

  #isNeighbour({ peer, isNear }: ServedRequester): boolean {
    return isNear || (this.#components.rttMs(peer) ?? Number.POSITIVE_INFINITY) <= NEAR_RTT_MS
  }

  #accept(stream: Stream, connection: Connection): void {
    const nowMs = this.#components.clock.monotonicMs()
    const isNear = this.#components.isNear(connection.remoteAddr)
    const network = isNear ? undefined : crowdOf(connection.remoteAddr.toString())
    const lobby = [...this.#requesters.keys()].filter(({ admitted }) => !admitted)
    const isFull = lobby.length >= MAX_LOBBY || this.#ofNetwork(network, lobby).length >= shareOf(MAX_LOBBY)
    if (this.#stopped || isFull) {
      const says = `more than ${MAX_LOBBY} requesters wait to be admitted, or ${shareOf(MAX_LOBBY)} of one network`
      stream.abort(new RowanError('LIMIT_EXCEEDED', says))
      return
    }
    if (!carriesBlocks(connection)) {
      stream.abort(new RowanError('LIMIT_EXCEEDED', 'no blocks through a relay that does not carry them'))
      return
    }
    const peer = connection.remotePeer.toString()
    const requester = new ServedRequester({ peer, isNear }, stream, {
      images: this.#components.images,
      queue: this.#queue,
      records: this.#components.records,
      profileOf: image => this.#components.profileOf(image),
      log: this.#components.log,
      openedImage: id => this.#components.openedImage(id),
      helperOf: (who, id) => (this.#isNeighbour(who) ? this.#components.helperOf(id) : undefined),
      onBehalf: this.#onBehalf,
      admit: (newcomer, image) => this.#admit(newcomer, image),
      gave: who => {
        const use = this.#requesters.get(who)
        if (use !== undefined) use.usedMs = this.#components.clock.monotonicMs()
      },
      spent: (who, bytes) => this.#spend(who, bytes),
      rateAllows: () => this.#rateAllows(),
      work: () => this.#work(),
      ended: gone => {
        this.#queue.drop(gone)
        this.#onBehalf.drop(gone)
        this.#requesters.get(gone)?.greeting.cancel()
        this.#requesters.delete(gone)
      }
    })
    const greeting = this.#components.clock.after(GREETING_TIMEOUT_MS, () => {
      if (!requester.admitted) requester.end(new RowanError('TIMEOUT_RESPONSE', 'no OPEN in time'))
    })
    this.#requesters.set(requester, { usedMs: nowMs, greeting, network })
    // A peer has one stream: its new one says that it gave up the old one.
    for (const older of [...this.#requesters.keys()]) if (older !== requester && older.peer === peer) older.end()
  }

  #admit(newcomer: ServedRequester, image: string): boolean {
    const { maxPeers } = this.#settings
    const network = this.#requesters.get(newcomer)?.network
    newcomer.isCourtesy = !newcomer.isNear && !this.#components.isDonated(image)
    const hasPlace =
      this.#hasPlace(this.#ofNetwork(network, this.#admitted()), shareOf(maxPeers)) &&
      this.#hasPlace(this.#admitted(), maxPeers)
    if (!hasPlace || (this.#quiet && !newcomer.isNear)) {
      this.#sendAway(newcomer, image)
      return false
    }
    newcomer.admitted = true
    return true
  }

  /** Those of one network. Who is at home is of none, and counts in none. */
  #ofNetwork(network: string | undefined, requesters: readonly ServedRequester[]): ServedRequester[] {
    if (network === undefined) return []
    return requesters.filter(requester => this.#requesters.get(requester)?.network === network)
  }

  #admitted(): ServedRequester[] {
    return [...this.#requesters.keys()].filter(({ admitted }) => admitted)
  }

  #hasPlace(admitted: ServedRequester[], places: number): boolean {
    return admitted.length < places || this.#freePlace(admitted)
  }

  /** @param image - that others are named for; none if absent */
  #sendAway(requester: ServedRequester, image?: string): void {
    const others = image === undefined ? [] : this.#components.others(image, requester.peer)
    requester.send(busyFrame(others, this.#quiet ? QUIET_RETRY_MS : BUSY_RETRY_MS))
    requester.end()
  }

  /** Ends the requester that was sent nothing for the longest time, if that was long. What it asked for says nothing: it may let nothing come. */
  #freePlace(admitted: ServedRequester[]): boolean {
    const nowMs = this.#components.clock.monotonicMs()
    let idlest: ServedRequester | undefined
    let idleMs = IDLE_STREAM_MS
    for (const requester of admitted) {
      const silentMs = nowMs - (this.#requesters.get(requester)?.usedMs ?? nowMs)
      if (requester.outgoing.reading > 0 || silentMs < idleMs) continue
      idlest = requester
      idleMs = silentMs
    }
    idlest?.end()
    return idlest !== undefined
  }

  /** Serves as long as there is something to serve, and somewhere to put it. */
  #work(): void {
    for (let served = 0; this.#reads < MAX_READS_AT_ONCE && !this.#stopped; served++) {
      if (served >= BLOCKS_AT_A_STRETCH) {
        this.#restTimer ??= this.#components.clock.after(0, () => {
          this.#restTimer = undefined
          this.#work()
        })
        return
      }
      const nowMs = this.#components.clock.monotonicMs()
      const waitMs = this.#bucket?.waitMs(nowMs) ?? 0
      if (waitMs > 0) {
        this.#workIn(waitMs)
        return
      }
      const courtesyWaitMs = this.#courtesyBucket?.waitMs(nowMs) ?? 0
      const next = this.#queue.next(
        (requester, rank) => requester.canTake(rank) && !(requester.isCourtesy && courtesyWaitMs > 0)
      )
      if (next === undefined) {
        if (courtesyWaitMs > 0) this.#workIn(courtesyWaitMs)
        return
      }
      const { requester, key, rank, job } = next
      if (itemOf(key).kind === 'node') {
        requester.answerNode(key)
        continue
      }
      this.#serve(requester, key, rank, job)
    }
  }

  #workIn(waitMs: number): void {
    this.#rateTimer ??= this.#components.clock.after(waitMs, () => {
      this.#rateTimer = undefined
      this.#work()
    })
  }

  #serve(requester: ServedRequester, key: number, rank: Rank, job: UploadJob): void {
    const item = itemOf(key)
    const image = requester.imageOf(key)
    if (item.kind !== 'block' || image === undefined || requester.ended) return
    try {
      const frame = this.#reader.frame(image, item.block, item.image, job.acceptZstd)
      if (frame instanceof Promise) this.#serveLater(requester, key, rank, image, frame)
      else this.#answer(requester, key, rank, image, frame)
    } catch (cause) {
      this.#failed(requester, key, cause)
    }
  }

  #serveLater(
    requester: ServedRequester,
    key: number,
    rank: Rank,
    image: LocalImage,
    pending: Promise<Uint8Array | undefined>
  ): void {
    this.#reads++
    const read = requester.outgoing.readBegins(key, rank)
    pending
      .then(frame => (read.isOver ? undefined : this.#answer(requester, key, read.rank, image, frame)))
      .catch(cause => this.#failed(requester, key, cause, read))
      .finally(() => {
        this.#reads--
        requester.outgoing.readEnds(read)
        this.#work()
      })
  }

  #answer(requester: ServedRequester, key: number, rank: Rank, image: LocalImage, frame: Uint8Array | undefined): void {
    const item = itemOf(key)
    if (requester.ended || item.kind !== 'block') return
    if (frame === undefined) {
      // Its page may not be at the requester yet, so it could not know that there is nothing to ask for.
      requester.answerMissing(key, image.locate(item.block) === ZERO ? 'zero' : 'absent')
      return
    }
    this.#spend(requester, frame.byteLength)
    requester.outgoing.add(key, rank, frame)
  }

  #spend(requester: ServedRequester, bytes: number): void {
    const nowMs = this.#components.clock.monotonicMs()
    this.#bucket?.take(bytes, nowMs)
    if (requester.isCourtesy) this.#courtesyBucket?.take(bytes, nowMs)
  }

  /** For what does not stand in the queue. The rate may be changed meanwhile, or the server stop. */
  async #rateAllows(): Promise<void> {
    const { clock } = this.#components
    const waitMs = () => (this.#stopped ? 0 : (this.#bucket?.waitMs(clock.monotonicMs()) ?? 0))
    for (let ms = waitMs(); ms > 0; ms = waitMs()) {
      await new Promise<void>(resolve => void clock.after(Math.min(ms, MAX_RATE_WAIT_MS), resolve))
    }
  }

  #failed(requester: ServedRequester, key: number, cause: unknown, read?: BlockRead): void {
    const { code, message } = asRowanError(cause, 'STORE_IO', 'a block could not be read')
    this.#components.log.warn('a block that is here could not be served', { code, message })
    if (read?.isOver !== true) requester.answerMissing(key, 'absent')
  }
}

/** What one network may have of so many places. */
function shareOf(places: number): number {
  return Math.max(MIN_PLACES_PER_NETWORK, Math.floor(places * MAX_NETWORK_SHARE))
}
