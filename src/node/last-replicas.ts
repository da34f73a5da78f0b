/**
 * Of which images this peer knows that nobody else serves all of them, although somebody may use them.
 *
 * Asked of the directory in the background, and only while the pool is getting full: eviction must not wait for the
 * network. Only releases that their publisher still lists can be in use, so only those are asked for; of a release of which
 * everybody who answered says that nobody uses it, being the last replica is no reason to stay. What the directory could not
 * say of replicas stays as it was known before, and what was never known does not count; where it could not say of the use, there may
 * be one.
 *
 * Owns: what is known. Does not own: what follows from it (stay-reasons.ts).
 */
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'

/** Images asked for in one go, the least certain first. */
const MAX_ASKED = 64
const ASKED_AT_ONCE = 4
const REFRESH_MS = 5 * 60_000
/** Releases that have one image: with more, one of them is taken to be in use. */
const MAX_RELEASES_ASKED = 4
/** Above this part of the quota it is worth knowing. */
const NEEDED_ABOVE = 0.8

export interface LastReplicasComponents {
  directory: {
    findReplicas(image: string, options: { signal: AbortSignal }): Promise<{ complete: boolean; expiresMs: number }[]>
    countSharers(
      release: string,
      options: { signal: AbortSignal }
    ): Promise<{ count: number | null; inUseUntilMs: number }>
  }
  images: {
    list(): AsyncIterable<string>
    open(id: string): Promise<{ recount(): Promise<void>; readonly complete: boolean } | undefined>
  }
  pool: { readonly level: { takenBlocks: number; maxBlocks: number } }
  /** Images of releases that are listed by their publishers, without those that stay anyway. */
  listed(): ReadonlySet<string>
  /** The releases, `PUBLISHER/NAME@VERSION`, that list an image. */
  releasesOf(image: string): string[]
  clock: Clock
  log: Log
}

export class LastReplicas {
  readonly #components: LastReplicasComponents
  readonly #known = new Map<string, { isLast: boolean; askedMs: number }>()
  readonly #stopped = new AbortController()
  #timer: Timer | undefined
  #running: Promise<void> | undefined

  constructor(components: LastReplicasComponents) {
    this.#components = components
  }

  isLast(image: string): boolean {
    return this.#known.get(image)?.isLast === true
  }

  get isNeeded(): boolean {
    const { takenBlocks, maxBlocks } = this.#components.pool.level
    return takenBlocks > maxBlocks * NEEDED_ABOVE
  }

  /** Asks now, and from time to time. Resolves when it was asked, or found not to be needed. */
  async start(): Promise<void> {
    await this.#refresh()
    this.#keepAsking()
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#timer?.cancel()
    await this.#running
  }

  #keepAsking(): void {
    if (this.#stopped.signal.aborted) return
    this.#timer = this.#components.clock.after(REFRESH_MS, () => {
      this.#refresh().finally(() => this.#keepAsking())
    })
  }

  /** Never rejects. */
  async #refresh(): Promise<void> {
    if (!this.isNeeded || this.#stopped.signal.aborted) return
    this.#running ??= this.#askAll().finally(() => {
      this.#running = undefined
    })
    await this.#running
  }

  async #askAll(): Promise<void> {
    const { log } = this.#components
    try {
      const images = await this.#candidates()
      for (const image of this.#known.keys()) if (!images.includes(image)) this.#known.delete(image)
      const waiting = images
        .toSorted((a, b) => (this.#known.get(a)?.askedMs ?? 0) - (this.#known.get(b)?.askedMs ?? 0))
        .slice(0, MAX_ASKED)
      const askers = Array.from({ length: ASKED_AT_ONCE }, async () => {
        for (let image = waiting.shift(); image !== undefined; image = waiting.shift()) await this.#ask(image)
      })
      await Promise.all(askers)
    } catch (error) {
      log.warn('what others serve could not be found out', { error: asRowanError(error) })
    }
  }

  /** Complete images here that others may rely on. */
  async #candidates(): Promise<string[]> {
    const { images, listed } = this.#components
    const wanted = listed()
    const found: string[] = []
    for await (const id of images.list()) {
      if (!wanted.has(id)) continue
      const image = await images.open(id)
      await image?.recount()
      if (image?.complete === true) found.push(id)
    }
    return found
  }

  async #ask(image: string): Promise<void> {
    const { directory, clock, log } = this.#components
    const { signal } = this.#stopped
    if (signal.aborted) return
    try {
      const others = await directory.findReplicas(image, { signal })
      // What has expired is worth a call, and no proof that anybody is there: whoever kept it may say it again.
      const isElsewhere = others.some(({ complete, expiresMs }) => complete && expiresMs > clock.now())
      const isLast = !isElsewhere && (await this.#mayBeUsed(image))
      this.#known.set(image, { isLast, askedMs: clock.monotonicMs() })
    } catch (error) {
      log.debug('it is not known who else serves an image', { image, error: String(error) })
    }
  }

  async #mayBeUsed(image: string): Promise<boolean> {
    const { directory, releasesOf } = this.#components
    const releases = releasesOf(image)
    if (releases.length > MAX_RELEASES_ASKED) return true
    for (const release of releases) {
      const { count, inUseUntilMs } = await directory.countSharers(release, { signal: this.#stopped.signal })
      if (count === null || inUseUntilMs > 0) return true
    }
    return false
  }
}
