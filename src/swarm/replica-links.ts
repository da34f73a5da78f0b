/**
 * Finding replicas of an image and staying connected with them.
 *
 * `seek` may be called at any time and as often as one likes: it calls known replicas that may be called now, several at a time, up
 * to REPLICAS_PER_IMAGE, and asks the directory for more when these are few, less and less often while that brings nothing. It
 * never gives up; whoever waits for a block keeps calling it (the scheduler reminds once a second).
 */

import type { Clock, Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { Timeline } from '../timeline.ts'
import type { Dialer, OpenStream } from './dialer.ts'
import type { FetchEngine, LinkEvents } from './fetch-engine.ts'
import type { KnownReplica, KnownReplicas, ReplicaHint } from './known-replicas.ts'
import { IMAGE_TIMEOUT_MS, REPLICAS_PER_IMAGE } from './limits.ts'
import type { ReplicaLink } from './replica-link.ts'

/** An image, as far as the search for its replicas is concerned. */
export interface SoughtImage {
  readonly number: number
  readonly id: string
  readonly known: KnownReplicas
  readonly line: Timeline
  /** Whether somebody waits for something of it. */
  isNeeded(): boolean
  /** Whether this replica should send the whole index unasked. */
  wantsIndexFrom(peer: string): boolean
}

export interface ReplicaLinksComponents {
  dialer: Dialer
  engine: FetchEngine
  findReplicas(image: string, options: { signal: AbortSignal }): Promise<ReplicaHint[]>
  /** Peers on this network: they are asked without being announced. */
  neighbours(): ReplicaHint[]
  /** What happens on a connection; `ended` is told here too. */
  events(peer: string): LinkEvents
  self: string
  clock: Clock
  log: Log
}

interface Search {
  running: boolean
  nextMs: number
  fruitless: number
}

const DIALS_AT_ONCE = 16
const FIRST_SEARCH_MS = 1_000
const MAX_SEARCH_MS = 60_000
const SEARCH_TIMEOUT_MS = 20_000
/** A connection that lasted so long is made again at once. */
const STEADY_MS = 5_000
const BUSY_ERROR = 'it has no room now'

export class ReplicaLinks {
  readonly #components: ReplicaLinksComponents
  readonly #maxPeers: number
  readonly #images = new Map<number, SoughtImage>()
  readonly #searches = new Map<number, Search>()
  readonly #dialling = new Set<string>()
  readonly #stop = new AbortController()

  constructor(components: ReplicaLinksComponents, settings: { maxPeers: number }) {
    this.#components = components
    this.#maxPeers = settings.maxPeers
  }

  add(image: SoughtImage): void {
    this.#images.set(image.number, image)
    this.#searches.set(image.number, { running: false, nextMs: 0, fruitless: 0 })
  }

  stop(): void {
    this.#stop.abort()
  }

  seek(image: SoughtImage): void {
    if (this.#stop.signal.aborted) return
    const { engine, clock, self, neighbours } = this.#components
    const nowMs = clock.monotonicMs()
    for (const hint of neighbours()) if (image.known.get(hint.peer) === undefined) image.known.add(hint)
    let links = 0
    for (const replica of image.known.candidates(nowMs)) {
      if (links >= REPLICAS_PER_IMAGE) break
      const { peer } = replica
      if (peer === self || engine.isLiar(peer)) image.known.forget(peer)
      else if (this.#use(image, replica)) links++
    }
    if (links < REPLICAS_PER_IMAGE) this.#search(image, nowMs)
  }

  /** A server had no room, and named others. */
  busy(peer: string, others: ReplicaHint[], retryAfterMs: number): void {
    const nowMs = this.#components.clock.monotonicMs()
    for (const image of this.#images.values()) {
      if (image.known.get(peer) === undefined) continue
      image.known.failed(peer, new RowanError('LIMIT_EXCEEDED', BUSY_ERROR), nowMs, { atLeastMs: retryAfterMs })
      for (const other of others) image.known.heardOf(other)
    }
  }

  /** @returns whether there is a link to this replica, or will be soon */
  #use(image: SoughtImage, replica: KnownReplica): boolean {
    const client = this.#components.engine.client(replica.peer)
    if (client !== undefined) {
      if (client.hasOpened(image.number)) return !client.lacks(image.number)
      if (!client.hasRoom) return false
      this.#open(client, image)
      return true
    }
    if (this.#dialling.has(replica.peer)) return true
    if (this.#dialling.size >= DIALS_AT_ONCE || !this.#hasPlace()) return false
    void this.#dial(replica)
    return true
  }

  #open(client: ReplicaLink, image: SoughtImage): void {
    const { clock } = this.#components
    client.open(image.number, image.id, image.wantsIndexFrom(client.peer))
    clock.after(IMAGE_TIMEOUT_MS, () => {
      if (client.ended || !client.awaits(image.number)) return
      client.release(image.number)
      image.known.failed(client.peer, new RowanError('TIMEOUT_RESPONSE', 'no root in time'), clock.monotonicMs())
      if (image.isNeeded()) this.seek(image)
    })
  }

  #hasPlace(): boolean {
    const { engine } = this.#components
    if (engine.links + this.#dialling.size < this.#maxPeers) return true
    const idle = engine.view().find(({ images }) => !images.some(number => this.#images.get(number)?.isNeeded()))
    if (idle === undefined) return false
    engine.client(idle.peer)?.end()
    return true
  }

  /**
   * Calls a connected replica that is silent anew. If it speaks again before the new stream is open, the old one stays; if the call
   * fails, nothing is lost.
   */
  async redial(peer: string): Promise<void> {
    const { dialer, engine, log } = this.#components
    const before = engine.client(peer)
    const known = [...this.#images.values()].find(image => image.known.get(peer) !== undefined)?.known.get(peer)
    if (before === undefined || known === undefined || this.#dialling.has(peer)) return
    this.#dialling.add(peer)
    try {
      const freshWhile = () => !this.#stop.signal.aborted && engine.client(peer) === before && engine.isSuspected(peer)
      const open = await dialer.open(peer, known.addresses, { freshWhile })
      if (!freshWhile()) {
        open.stream.abort(new RowanError('ABORTED', 'the former connection will do'))
        return
      }
      log.info('a replica was silent, and is spoken to over a new connection', { peer })
      this.#link(peer, open)
      open.endOthers()
    } catch (cause) {
      const { code, message } = asRowanError(cause, 'NO_REPLICA')
      log.debug('a silent replica cannot be reached anew', { peer, code, message })
    } finally {
      this.#dialling.delete(peer)
    }
  }

  async #dial(replica: KnownReplica): Promise<void> {
    const { dialer, log } = this.#components
    const { peer, addresses } = replica
    this.#dialling.add(peer)
    this.#mark(peer, 'dialling')
    try {
      const open = await dialer.open(peer, addresses)
      this.#mark(peer, 'connected')
      if (this.#stop.signal.aborted) open.stream.abort(new RowanError('DISK_CLOSED', 'the swarm stops'))
      else this.#link(peer, open)
    } catch (cause) {
      const error = asRowanError(cause, 'NO_REPLICA')
      log.debug('a replica cannot be reached', { peer, code: error.code, message: error.message })
      this.#dialling.delete(peer)
      this.#failed(peer, error)
    } finally {
      this.#dialling.delete(peer)
    }
  }

  /** In the time lines of the images that this replica is known for. */
  #mark(peer: string, what: string, rttMs?: number): void {
    for (const image of this.#images.values()) {
      if (image.known.get(peer) !== undefined)
        image.line.mark(what, { peer, ...(rttMs === undefined ? {} : { rttMs }) })
    }
  }

  /** Links an open stream to the scheduler, and opens the images that its peer is known for. */
  #link(peer: string, { stream, loopback, isNear }: OpenStream): void {
    const { engine, events, neighbours, clock } = this.#components
    const onOwnNetwork = isNear && neighbours().some(hint => hint.peer === peer)
    const own = events(peer)
    const startMs = clock.monotonicMs()
    const wanted = [...this.#images.values()].filter(({ known }) => known.get(peer) !== undefined).map(({ id }) => id)
    const client = engine.link(
      peer,
      stream,
      { loopback, onOwnNetwork },
      {
        ...own,
        greeted: () => this.#mark(peer, 'greeted', clock.monotonicMs() - startMs),
        ended: error => {
          own.ended(error)
          const livedMs = clock.monotonicMs() - startMs
          const gone = error ?? new RowanError('PEER_GONE', `the connection ended after ${Math.round(livedMs)} ms`)
          this.#failed(peer, gone, livedMs >= STEADY_MS)
        }
      },
      wanted
    )
    for (const image of this.#images.values()) {
      if (image.known.get(peer) === undefined || client.ended || !client.hasRoom) continue
      this.#open(client, image)
    }
  }

  /**
   * Puts the next call off, and looks for others where somebody waits.
   *
   * @param wasSteady - it had worked for a while: a broken line rather than a broken peer
   */
  #failed(peer: string, error: RowanError, wasSteady = false): void {
    const nowMs = this.#components.clock.monotonicMs()
    for (const image of this.#images.values()) {
      if (image.known.get(peer) === undefined) continue
      image.known.failed(peer, error, nowMs, { wasSteady })
      if (image.isNeeded()) this.seek(image)
    }
  }

  #search(image: SoughtImage, nowMs: number): void {
    const search = this.#searches.get(image.number)
    if (search === undefined || search.running || nowMs < search.nextMs) return
    search.running = true
    void this.#find(image, search).finally(() => {
      search.running = false
    })
  }

  async #find(image: SoughtImage, search: Search): Promise<void> {
    const { findReplicas, clock, log } = this.#components
    const abort = new AbortController()
    const timer = clock.after(SEARCH_TIMEOUT_MS, () => abort.abort())
    const before = image.known.size
    try {
      const signal = AbortSignal.any([abort.signal, this.#stop.signal])
      for (const hint of await findReplicas(image.id, { signal })) image.known.add(hint)
    } catch (cause) {
      const error = asRowanError(cause, 'NO_PEERS')
      log.debug('the directory gave no replicas', { image: image.id, code: error.code, message: error.message })
    } finally {
      timer.cancel()
    }
    search.fruitless = image.known.size > before ? 0 : search.fruitless + 1
    search.nextMs = clock.monotonicMs() + Math.min(MAX_SEARCH_MS, FIRST_SEARCH_MS * 2 ** search.fruitless)
    if (image.known.size > before) this.seek(image)
  }
}
