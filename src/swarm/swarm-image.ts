/**
 * One image in the swarm: its number, the replicas that are known, and what is being fetched once its root is here.
 */

import type { Clock, Random } from '../environment.ts'
import type { RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import { Timeline } from '../timeline.ts'
import { ImageFetch, type ImageFetchComponents } from './image-fetch.ts'
import { KnownReplicas } from './known-replicas.ts'
import { MAX_ON_BEHALF_SHARE, MIN_ON_BEHALF_BLOCKS } from './limits.ts'
import type { FetchedOnBehalf } from './on-behalf.ts'
import type { SoughtImage } from './replica-links.ts'
import { TransferCount } from './transfer-count.ts'

export class SwarmImage implements SoughtImage {
  readonly id: string
  readonly number: number
  readonly known: KnownReplicas
  /** How its first blocks came here. */
  readonly line: Timeline
  /** Since the start, also where it was closed meanwhile. */
  readonly count = new TransferCount()
  #fetch: ImageFetch | undefined
  /** Who was asked to send the whole index unasked. */
  #indexFrom: string | undefined
  #openers = 0
  #users = 0
  /** Blocks that may yet be fetched for neighbours alone. */
  #behalfLeft = 0
  #changed = Promise.withResolvers<void>()
  #failure: RowanError | undefined

  constructor(id: string, number: number, random: Random, clock: Clock) {
    this.id = id
    this.number = number
    this.known = new KnownReplicas(random)
    this.line = new Timeline(clock)
  }

  /** Undefined until the root is here. */
  get fetch(): ImageFetch | undefined {
    return this.#fetch
  }

  /** The root is here. */
  open(image: LocalImage, components: Omit<ImageFetchComponents, 'number' | 'image' | 'line' | 'count'>): ImageFetch {
    if (this.#fetch === undefined) {
      const { number, line, count } = this
      this.#fetch = new ImageFetch({ ...components, number, image, line, count })
      image.use(() => this.#fetch?.image === image && (this.#users > 0 || this.isNeeded()))
      this.#change()
    }
    return this.#fetch
  }

  /** The root came, but cannot be kept here: whoever waits for it is told. */
  failed(error: RowanError): void {
    this.#failure = error
    this.#change()
    this.#failure = undefined
  }

  /** A disk here uses it, or a fill completes it; until the returned function is called. */
  use(): () => void {
    let isOver = false
    if (this.#users++ === 0) {
      const { blocks = 0, zeroBlocks = 0 } = this.#fetch?.image.root ?? {}
      this.#behalfLeft = Math.max(MIN_ON_BEHALF_BLOCKS, Math.floor((blocks - zeroBlocks) * MAX_ON_BEHALF_SHARE))
    }
    return () => {
      if (!isOver) this.#users--
      isOver = true
    }
  }

  /** For neighbours who want blocks fetched; undefined while nobody here uses the image. */
  get onBehalf(): FetchedOnBehalf | undefined {
    const fetch = this.#fetch
    if (fetch === undefined || this.#users === 0) return undefined
    return {
      wants: block => fetch.wants(block),
      request: (block, waiter) => fetch.request(block, waiter),
      spend: () => this.#behalfLeft > 0 && this.#behalfLeft-- > 0
    }
  }

  isNeeded(): boolean {
    return this.#openers > 0 || (this.#fetch?.isBusy ?? false)
  }

  wantsIndexFrom(peer: string): boolean {
    if (this.#indexFrom !== undefined || this.#fetch?.image.indexComplete) return false
    this.#indexFrom = peer
    return true
  }

  /** A peer is gone: if it was to send the index, another may be asked. */
  left(peer: string): void {
    this.#fetch?.index.left(peer)
    if (this.#indexFrom === peer) this.#indexFrom = undefined
  }

  /** The root is not here any more. */
  close(error: RowanError): void {
    this.stop(error)
    this.#fetch = undefined
    this.#indexFrom = undefined
  }

  stop(error: RowanError): void {
    this.#fetch?.stop(error)
    this.#change()
  }

  /** Waits until something changed, at most `ms`. Rejects with what keeps the image from being opened. */
  async change(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
    const changed = this.#changed.promise
    const over = Promise.withResolvers<void>()
    const timer = clock.after(ms, over.resolve)
    const stop = () => over.resolve()
    signal?.addEventListener('abort', stop, { once: true })
    this.#openers++
    try {
      await Promise.race([changed, over.promise])
    } finally {
      this.#openers--
      timer.cancel()
      signal?.removeEventListener('abort', stop)
    }
  }

  #change(): void {
    if (this.#failure !== undefined) this.#changed.reject(this.#failure)
    else this.#changed.resolve()
    // Nobody may be waiting for the old one.
    this.#changed.promise.catch(() => undefined)
    this.#changed = Promise.withResolvers<void>()
  }
}
