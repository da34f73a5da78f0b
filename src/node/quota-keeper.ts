/**
 * The pool under its quota, in this peer: puts the store's eviction together with what the other rooms know.
 *
 * Uses are noted from the first moment; nothing is evicted before it can be told what is pinned, and, if the pool is
 * nearly full at the start, before the directory was asked what others have. What was evicted is announced as partial, or
 * no longer, a moment later.
 */
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { Evictor } from '../store/evictor.ts'
import type { Images, LocalImage } from '../store/images.ts'
import type { Pool } from '../store/pool.ts'
import { LastReplicas, type LastReplicasComponents } from './last-replicas.ts'
import { type KnownAppliances, listedImages, releasesOf, type StayRooms, stayReasons } from './stay-reasons.ts'

/** At the start eviction waits this long for the directory. */
const ASK_FIRST_MS = 10_000
/** Losses are gathered this long: eviction goes in batches. */
const AMEND_AFTER_MS = 500

interface QuotaComponents {
  pool: Pool
  images: Images
  memory: KnownAppliances
  clock: Clock
  log: Log
}

type QuotaRooms = StayRooms & {
  directory: LastReplicasComponents['directory'] & {
    amendReplica(image: string, here: 'all' | 'part' | 'nothing'): void
  }
}

export class QuotaKeeper {
  readonly #components: QuotaComponents
  readonly #evictor: Evictor
  readonly #lost = new Map<string, LocalImage>()
  #rooms: QuotaRooms | undefined
  #lastReplicas: LastReplicas | undefined
  #stopListening: (() => void) | undefined
  #amendTimer: Timer | undefined
  #startTimer: Timer | undefined
  #stopped = false

  constructor(components: QuotaComponents) {
    this.#components = components
    const reasons = () => {
      const rooms = this.#rooms
      if (rooms === undefined) return new Map()
      return stayReasons(rooms, components.memory, image => this.#lastReplicas?.isLast(image) === true)
    }
    this.#evictor = new Evictor({ ...components, stay: { reasons } })
  }

  /** Machines and promises are known from now on. Returns at once. */
  start(rooms: QuotaRooms): void {
    const { pool, images, memory, clock, log } = this.#components
    this.#rooms = rooms
    this.#stopListening = images.onLost(image => this.#lostSome(image))
    const { directory } = rooms
    const listed = () => listedImages(rooms, memory)
    this.#lastReplicas = new LastReplicas({
      ...{ directory, images, pool, listed, clock, log },
      releasesOf: image => releasesOf(image, memory)
    })
    const begin = () => {
      this.#startTimer?.cancel()
      if (!this.#stopped) this.#evictor.start()
    }
    this.#startTimer = clock.after(ASK_FIRST_MS, begin)
    this.#lastReplicas.start().finally(begin)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#startTimer?.cancel()
    this.#amendTimer?.cancel()
    this.#stopListening?.()
    await this.#lastReplicas?.stop()
    await this.#evictor.stop()
  }

  /** Something is not pinned any more. */
  reconsider(): void {
    this.#evictor.reconsider()
  }

  /** Bytes that are never evicted. */
  pinnedBytes(): Promise<number> {
    return this.#evictor.pinnedBytes()
  }

  #lostSome(image: LocalImage): void {
    this.#lost.set(image.id, image)
    this.#amendTimer ??= this.#components.clock.after(AMEND_AFTER_MS, () => {
      this.#amendTimer = undefined
      const lost = [...this.#lost.values()]
      this.#lost.clear()
      for (const each of lost) void this.#amend(each)
    })
  }

  /** Never rejects. */
  async #amend(image: LocalImage): Promise<void> {
    try {
      await image.recount()
      const part = image.local.blocks === 0 ? 'nothing' : 'part'
      this.#rooms?.directory.amendReplica(image.id, image.complete ? 'all' : part)
    } catch (error) {
      const { id } = image
      this.#components.log.warn('what is left of an image could not be announced', { id, error: asRowanError(error) })
    }
  }
}
