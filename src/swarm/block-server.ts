/**
 * The serving side: whoever asks gets blocks of the images that are here, full or partial, as far as the limits allow.
 *
 * Here requesters come in and go. Who may stay, and who has to go for another, is serving-places.ts; what one says and hears on its
 * stream, served-requester.ts; what it asks for waits in a queue that all share (asked-items.ts), and goes out from there (uploads.ts).
 *
 * A requester above the number of places, or above what one network may have of them, gets BUSY with other replicas' addresses, once it
 * said which image it wants. Those that are served hear here what came to this peer and what went.
 *
 * Owns: the streams of all requesters.
 */

import type { Connection, Stream } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { PROTOCOL } from '../cluster.ts'
import { crowdOf } from '../directory/addresses.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import type { AskedItems, UploadJob } from './asked-items.ts'
import type { RecordExchange } from './greeting.ts'
import { GREETING_TIMEOUT_MS, HAVE_INTERVAL_MS, NEAR_HAVE_INTERVAL_MS } from './limits.ts'
import { busyFrame, type PeerHint } from './messages.ts'
import { NEAR_RTT_MS } from './neighbours.ts'
import { type FetchedOnBehalf, OnBehalf } from './on-behalf.ts'
import { carriesBlocks } from './relayed.ts'
import { ServedRequester } from './served-requester.ts'
import { LOBBY_IS_FULL, ServingPlaces } from './serving-places.ts'
import type { TrafficLimits } from './traffic-limits.ts'
import { UploadQueue } from './upload-queue.ts'
import { Uploads, type UploadsComponents } from './uploads.ts'

const BUSY_RETRY_MS = 5_000
/** Whoever serves nobody now is not asked again soon. */
const QUIET_RETRY_MS = 60_000

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
  pool: UploadsComponents['pool']
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
  readonly #queue = new UploadQueue<AskedItems, UploadJob>()
  readonly #uploads: Uploads
  readonly #onBehalf: OnBehalf<AskedItems, UploadJob>
  readonly #places: ServingPlaces<ServedRequester>
  /** Each with the time-out by which it has to say what it wants. */
  readonly #requesters = new Map<ServedRequester, Timer>()
  #quiet = false
  #newsTimer: Timer | undefined
  #nearNewsTimer: Timer | undefined
  #stopped = false

  constructor(components: BlockServerComponents, { maxPeers }: BlockServerSettings) {
    this.#components = components
    const { pool, clock, log } = components
    this.#places = new ServingPlaces({ places: maxPeers, isBusy: ({ asked }) => asked.outgoing.reading > 0 })
    this.#uploads = new Uploads({ queue: this.#queue, pool, clock, log })
    this.#onBehalf = new OnBehalf({
      arrived: (asked, key, rank, job) => {
        if (this.#queue.add(asked, key, rank, job)) this.#uploads.work()
        else asked.answerMissing(key, 'refused')
      },
      failed: (asked, key) => asked.answerMissing(key, 'refused'),
      clock
    })
  }

  /** From now on. Where it is quiet, requesters from beyond the local network are sent to others. */
  limit(limits: TrafficLimits): void {
    this.#quiet = limits.quiet
    const others = limits.quiet ? [...this.#requesters.keys()].filter(({ isNear }) => !isNear) : []
    for (const requester of others) this.#sendAway(requester)
    this.#uploads.limit(limits)
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
    this.#uploads.stop()
    this.#newsTimer?.cancel()
    this.#nearNewsTimer?.cancel()
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
    return [...this.#requesters.keys()].map(({ peer, asked, unsentBytes }) => ({
      peer,
      servedBlocks: asked.servedBlocks,
      servedBytes: asked.servedBytes,
      queued: this.#queue.count(asked),
      unsentBytes
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
    const { clock } = this.#components
    const isNear = this.#components.isNear(connection.remoteAddr)
    const network = isNear ? undefined : crowdOf(connection.remoteAddr.toString())
    if (this.#stopped || !this.#places.hasRoom(network)) {
      stream.abort(new RowanError('LIMIT_EXCEEDED', LOBBY_IS_FULL))
      return
    }
    if (!carriesBlocks(connection)) {
      stream.abort(new RowanError('LIMIT_EXCEEDED', 'no blocks through a relay that does not carry them'))
      return
    }
    const requester = this.#requesterOf(connection.remotePeer.toString(), isNear, stream)
    const greeting = clock.after(GREETING_TIMEOUT_MS, () => {
      if (!this.#places.isAdmitted(requester)) requester.end(new RowanError('TIMEOUT_RESPONSE', 'no OPEN in time'))
    })
    this.#places.enter(requester, network, clock.monotonicMs())
    this.#requesters.set(requester, greeting)
    // A peer has one stream: its new one says that it gave up the old one.
    for (const older of [...this.#requesters.keys()]) {
      if (older !== requester && older.peer === requester.peer) older.end()
    }
  }

  #requesterOf(peer: string, isNear: boolean, stream: Stream): ServedRequester {
    const { images, records, clock, log } = this.#components
    return new ServedRequester({ peer, isNear }, stream, {
      ...{ images, queue: this.#queue, onBehalf: this.#onBehalf, records, log },
      profileOf: image => this.#components.profileOf(image),
      openedImage: id => this.#components.openedImage(id),
      helperOf: (who, id) => (this.#isNeighbour(who) ? this.#components.helperOf(id) : undefined),
      admit: (newcomer, image) => this.#places.isAdmitted(newcomer) || this.#admit(newcomer, image),
      gave: who => this.#places.used(who, clock.monotonicMs()),
      spent: (asked, bytes) => this.#uploads.spend(asked, bytes),
      rateAllows: () => this.#uploads.rateAllows(),
      work: () => this.#uploads.work(),
      ended: gone => {
        this.#queue.drop(gone.asked)
        this.#onBehalf.drop(gone.asked)
        this.#places.leave(gone)
        this.#requesters.get(gone)?.cancel()
        this.#requesters.delete(gone)
      }
    })
  }

  #admit(newcomer: ServedRequester, image: string): boolean {
    newcomer.asked.isCourtesy = !newcomer.isNear && !this.#components.isDonated(image)
    if (this.#quiet && !newcomer.isNear) {
      this.#sendAway(newcomer, image)
      return false
    }
    const { isAdmitted, gone } = this.#places.admit(newcomer, this.#components.clock.monotonicMs())
    for (const idle of gone) idle.end()
    if (!isAdmitted) this.#sendAway(newcomer, image)
    return isAdmitted
  }

  /** @param image - that others are named for; none if absent */
  #sendAway(requester: ServedRequester, image?: string): void {
    const others = image === undefined ? [] : this.#components.others(image, requester.peer)
    requester.send(busyFrame(others, this.#quiet ? QUIET_RETRY_MS : BUSY_RETRY_MS))
    requester.end()
  }
}
