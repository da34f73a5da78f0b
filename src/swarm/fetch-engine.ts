/**
 * Drives the scheduler: gives it what happens, does what it says, and wakes it in time.
 *
 * Events are applied at once, but decided on together, after the current heap of frames: a hundred blocks that come in one message
 * make one round of requests.
 *
 * Owns: the scheduler, and the connections to the replicas from the moment that their stream is open.
 */

import type { Clock, Log, Timer } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { BlockBuffers } from './block-buffers.ts'
import { zstdPays } from './compression.ts'
import type { FrameCarrier } from './frame-stream.ts'
import type { RecordExchange } from './greeting.ts'
import type { FetchDriver } from './image-fetch.ts'
import { GREETING_TIMEOUT_MS } from './limits.ts'
import type { Rank } from './messages.ts'
import type { PeerView } from './peer-ledgers.ts'
import { ReplicaClient, type ReplicaEvents } from './replica-client.ts'
import type { ReplicaLink } from './replica-link.ts'
import { Scheduler } from './scheduler.ts'
import type { PeerKind, SchedulerAction, SchedulerEvent } from './scheduler-types.ts'
import { TokenBucket } from './token-bucket.ts'
import type { TrafficLimits } from './traffic-limits.ts'

/** A reminder this late says that the process was busy, and that silence of peers means nothing. */
const LATE_MS = 100

/** What the images and the search for replicas have to do about a connection. */
export interface LinkEvents extends Omit<ReplicaEvents, 'progress' | 'greeted' | 'unwanted' | 'asking'> {
  greeted?(): void
}

export interface FetchEngineComponents {
  /** This peer's id. */
  self: string
  clock: Clock
  log: Log
  records: RecordExchange | undefined
  buffers: BlockBuffers
  /** Who gave wrong bytes before this start; from now on only, if absent. */
  liars?: { readonly peers: ReadonlySet<string>; note(peer: string, code: string): void } | undefined
  /** No connected peer can give what is wanted of this image. */
  findReplicas(image: number, rank: Rank): void
  /** A peer sent something wrong. */
  accused?(peer: string): void
  /** A guest waits for a connected peer that is silent: its connection may be dead. */
  redial(peer: string): void
}

interface Link {
  client: ReplicaLink
  loopback: boolean
  onOwnNetwork: boolean
}

export class FetchEngine implements FetchDriver {
  readonly #components: FetchEngineComponents
  readonly #scheduler: Scheduler
  readonly #links = new Map<string, Link>()
  #bucket: TokenBucket | undefined
  #isDeciding = false
  #timer: { dueMs: number; timer: Timer } | undefined
  #stopped = false

  constructor(components: FetchEngineComponents) {
    this.#components = components
    this.#scheduler = new Scheduler(components.liars?.peers, components.self)
  }

  limit({ maxDownloadBytesPerSecond: rate, quiet }: TrafficLimits): void {
    const nowMs = this.#components.clock.monotonicMs()
    this.#bucket = Number.isFinite(rate) ? new TokenBucket(rate, rate / 10, nowMs) : undefined
    this.event({ type: 'quiet', quiet })
  }

  get links(): number {
    return this.#links.size
  }

  get wanted(): number {
    return this.#scheduler.wanted
  }

  client(peer: string): ReplicaLink | undefined {
    return this.#links.get(peer)?.client
  }

  isLiar(peer: string): boolean {
    return this.#scheduler.isLiar(peer)
  }

  isOnOwnNetwork(peer: string): boolean {
    return this.#links.get(peer)?.onOwnNetwork ?? false
  }

  /** The shortest round trip to a peer that was measured; undefined where it is not connected. */
  baseRttMs(peer: string): number | undefined {
    return this.#scheduler.estimate(peer)?.baseRttMs
  }

  isSuspected(peer: string): boolean {
    return this.#scheduler.isSuspected(peer)
  }

  view(): PeerView[] {
    return this.#scheduler.view()
  }

  /**
   * Speaks to a replica over a stream that is open. A former connection to the same peer is ended.
   *
   * @param images - ids of those that it is wanted for
   */
  link(
    peer: string,
    stream: FrameCarrier,
    { loopback, onOwnNetwork }: { loopback: boolean; onOwnNetwork: boolean },
    events: LinkEvents,
    images: readonly string[] = []
  ): ReplicaLink {
    const { log, records, buffers } = this.#components
    const make = (own: ReplicaEvents) => new ReplicaClient(peer, stream, { log, records, buffers, events: own }, images)
    return this.#attach(peer, make, { loopback, kind: { onOwnNetwork } }, events)
  }

  /** As `link`, with a replica that is asked only for what no other gives in time. */
  linkLastResort(peer: string, make: (events: ReplicaEvents) => ReplicaLink, events: LinkEvents): ReplicaLink {
    return this.#attach(peer, make, { loopback: false, kind: { lastResort: true } }, events)
  }

  #attach(
    peer: string,
    make: (events: ReplicaEvents) => ReplicaLink,
    { loopback, kind }: { loopback: boolean; kind: PeerKind },
    events: LinkEvents
  ): ReplicaLink {
    const { clock } = this.#components
    this.#links.get(peer)?.client.end()
    const sentMs = clock.monotonicMs()
    const askedMs = new Map<number, number>()
    const client: ReplicaLink = make({
      ...events,
      greeted: () => {
        events.greeted?.()
        this.event({ type: 'joined', peer, rttMs: clock.monotonicMs() - sentMs, kind })
      },
      asking: image => void askedMs.set(image, clock.monotonicMs()),
      image: (image, answer) => {
        const ms = askedMs.get(image)
        askedMs.delete(image)
        if (ms !== undefined) this.event({ type: 'round-trip', peer, rttMs: clock.monotonicMs() - ms })
        return events.image(image, answer)
      },
      progress: () => this.event({ type: 'progress', peer }),
      unwanted: bytes => this.event({ type: 'unwanted', peer, bytes }),
      block: (image, block, body, compressed, wireBytes) => {
        const stored = events.block(image, block, body, compressed, wireBytes)
        return this.#paced(wireBytes, stored)
      },
      ended: error => {
        if (this.#links.get(peer)?.client === client) {
          this.#links.delete(peer)
          this.event({ type: 'left', peer })
        }
        events.ended(error)
      }
    })
    if (client.ended) return client
    this.#links.set(peer, { client, loopback, onOwnNetwork: kind.onOwnNetwork ?? false })
    clock.after(GREETING_TIMEOUT_MS, () => {
      if (!client.greeted) client.end(new RowanError('TIMEOUT_RESPONSE', 'no HELLO in time'))
    })
    return client
  }

  event(event: SchedulerEvent): void {
    this.#scheduler.apply(event, this.#components.clock.monotonicMs())
    this.#decideSoon()
  }

  accuse(peer: string, error: RowanError): void {
    this.#components.log.warn('a replica sent something wrong, and is not asked again', {
      peer,
      code: error.code,
      message: error.message
    })
    this.event({ type: 'lied', peer })
    this.#components.accused?.(peer)
    this.#components.liars?.note(peer, error.code)
    this.#links.get(peer)?.client.end(error)
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.timer.cancel()
    for (const { client } of [...this.#links.values()]) client.end()
  }

  /** After what is being handled now. */
  #decideSoon(): void {
    if (this.#isDeciding || this.#stopped) return
    this.#isDeciding = true
    queueMicrotask(() => {
      this.#isDeciding = false
      if (!this.#stopped) this.#decide()
    })
  }

  #decide(): void {
    const nowMs = this.#components.clock.monotonicMs()
    for (const action of this.#scheduler.decide(nowMs)) this.#act(action)
    this.#remind(nowMs)
  }

  #act(action: SchedulerAction): void {
    if (action.type === 'find-replicas') {
      this.#components.findReplicas(action.image, action.rank)
      return
    }
    const link = this.#links.get(action.peer)
    if (link === undefined) return
    switch (action.type) {
      case 'send':
        link.client.request(action.keys, action.rank, this.#acceptsZstd(action.peer, link), action.onBehalf)
        break
      case 'raise':
        link.client.raise(action.keys, action.rank)
        break
      case 'call-off':
        link.client.callOff(action.keys)
        break
      case 'credit':
        link.client.credit(action.bytes)
        break
      case 'redial':
        this.#components.redial(action.peer)
        break
      case 'drop':
        if (action.why === 'stalled') {
          this.#components.log.info('a replica does not answer any more', { peer: action.peer })
          link.client.end(new RowanError('TIMEOUT_RESPONSE', 'no answer for too long'))
        }
    }
  }

  #acceptsZstd(peer: string, link: Link): boolean {
    const estimate = this.#scheduler.estimate(peer)
    // Neighbours are asked for little at a time: a first guess of the rate says nothing, and their processors boot machines.
    const isTold = !link.onOwnNetwork || estimate?.isMeasured
    return zstdPays({
      loopback: link.loopback || link.onOwnNetwork,
      rttMs: estimate?.baseRttMs,
      rateBytesPerSecond: isTold ? estimate?.rateBytesPerSecond : undefined
    })
  }

  #remind(nowMs: number): void {
    const dueMs = this.#scheduler.nextMs(nowMs)
    // A reminder that comes too early does no harm, and is cheaper than a new timer for each block.
    if (dueMs === undefined || (this.#timer !== undefined && this.#timer.dueMs <= dueMs)) return
    this.#timer?.timer.cancel()
    this.#timer = { dueMs, timer: this.#components.clock.after(dueMs - nowMs, () => this.#reminded(dueMs)) }
  }

  #reminded(dueMs: number): void {
    this.#timer = undefined
    const lateMs = this.#components.clock.monotonicMs() - dueMs
    if (lateMs > LATE_MS) this.event({ type: 'time', lateMs })
    // Who is kept from sending is not silent.
    for (const [peer, { client }] of this.#links) if (client.paused) this.event({ type: 'held-back', peer })
    this.#decideSoon()
  }

  /** Holds back a replica while the pool, or the download rate, has no room. */
  #paced(wireBytes: number, stored: void | Promise<void>): void | Promise<void> {
    const { clock } = this.#components
    const nowMs = clock.monotonicMs()
    this.#bucket?.take(wireBytes, nowMs)
    const waitMs = this.#bucket?.waitMs(nowMs) ?? 0
    if (waitMs === 0) return stored
    const paced = new Promise<void>(resolve => void clock.after(waitMs, resolve))
    return stored === undefined ? paced : Promise.all([stored, paced]).then(() => undefined)
  }
}
