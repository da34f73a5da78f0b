/**
 * Images of releases that were removed: kept and served for a while, then freed.
 *
 * A removed release may be needed for some moments yet: by a machine that was told of it before, by a replica that is not
 * whole. So its image stays for one TTL of running leases, pinned and announced as before; then it is announced no more, what
 * only it needs goes from the pool, and its root, index and uses go from the catalog. An image that is needed again (it was
 * released anew, a machine has it, it is replicated) leaves the trash at the end and stays.
 *
 * The entry is in the catalog before the release is removed, and goes in one write with the image's root: whatever is
 * interrupted in between is done again. The time is counted while this peer runs, so no jump of the clock shortens it.
 *
 * Owns: the table `trash`. Does not own: what is needed (whoever assembles the peer), blocks (store/sweeper.ts).
 */
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { Catalog, Codec, Operation, Table } from '../store/catalog.ts'

export const MAX_TRASHED_IMAGES = 4096
/** The time that is left is written down in so many steps. */
const STEPS = 8
const MIN_STEP_MS = 250
const MAX_STEP_MS = 60_000

export interface TrashedImage {
  image: string
  /** `PUBLISHER/NAME`. */
  appliance: string
  version: string
  leftMs: number
}

export interface TrashComponents {
  catalog: Catalog
  images: {
    open(id: string): Promise<{ recount(): Promise<void>; readonly complete: boolean } | undefined>
    /** False where somebody asked for it meanwhile. */
    forget(id: string, more: () => readonly Operation[]): Promise<boolean>
  }
  sweeper: { sweep(id: string, mayGo: () => boolean): Promise<{ freedBytes: number; isDone: boolean }> }
  swarm: { forget(id: string): boolean }
  directory: {
    announceReplica(image: string, appliance: string | undefined, complete: boolean): void
    withdrawReplica(image: string): void
  }
  /** Whether something else than the trash keeps the image here. */
  isNeeded: (image: string) => boolean
  clock: Clock
  log: Log
}

interface Entry {
  what: Omit<TrashedImage, 'leftMs'>
  leftMs: number
  isAnnounced: boolean
}

export class Trash {
  readonly #components: TrashComponents
  readonly #keepMs: number
  readonly #table: Table<Entry | undefined>
  readonly #entries = new Map<string, Entry>()
  #timer: Timer | undefined
  #running: Promise<void> = Promise.resolve()
  #countedMs: number
  #isStopped = false

  private constructor(components: TrashComponents, settings: { keepMs: number }) {
    this.#components = components
    this.#keepMs = settings.keepMs
    this.#table = components.catalog.table('trash', trashCodec)
    this.#countedMs = components.clock.monotonicMs()
  }

  /** @throws STORE_IO */
  static async open(components: TrashComponents, settings: { keepMs: number }): Promise<Trash> {
    const trash = new Trash(components, settings)
    for await (const [image, entry] of trash.#table.entries()) {
      if (entry !== undefined) trash.#entries.set(image, entry)
      else components.log.warn('an entry of the trash cannot be read; its image stays', { image })
    }
    return trash
  }

  /** Goes on with what is in it. */
  start(): void {
    for (const [image, { isAnnounced }] of this.#entries) if (isAnnounced) void this.#announce(image)
    this.#countedMs = this.#components.clock.monotonicMs()
    this.#again()
  }

  /** Waits until nothing runs any more; what is not done is done after the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    await this.#running
  }

  list(): TrashedImage[] {
    return [...this.#entries.values()].map(({ what, leftMs }) => ({ ...what, leftMs }))
  }

  /**
   * Puts images into the trash, durably; one that is in it already gets its full time again.
   *
   * @param options.announced - whether others are still to find it here
   * @throws LIMIT_EXCEEDED, DISK_FULL, STORE_IO
   */
  async add(images: readonly Omit<TrashedImage, 'leftMs'>[], options: { announced: boolean }): Promise<void> {
    const added = new Map(images.map(what => [what.image, this.#entryOf(what, options.announced)]))
    const fresh = [...added.keys()].filter(image => !this.#entries.has(image)).length
    if (this.#entries.size + fresh > MAX_TRASHED_IMAGES) {
      throw new RowanError('LIMIT_EXCEEDED', `${MAX_TRASHED_IMAGES} images of removed releases is the limit`)
    }
    const operations = [...added].map(([image, entry]) => this.#table.putOp(image, entry))
    await this.#components.catalog.write(operations, { sync: true })
    for (const [image, entry] of added) this.#entries.set(image, entry)
  }

  /** Counts the time, and empties what is due. Resolves when that is done; failures are logged, and tried again. */
  tick(): Promise<void> {
    this.#running = this.#running.then(() => this.#tick())
    return this.#running
  }

  #entryOf({ image, appliance, version }: Omit<TrashedImage, 'leftMs'>, isAnnounced: boolean): Entry {
    return { what: { image, appliance, version }, leftMs: this.#keepMs, isAnnounced }
  }

  #again(): void {
    if (this.#isStopped) return
    const stepMs = Math.min(MAX_STEP_MS, Math.max(MIN_STEP_MS, this.#keepMs / STEPS))
    this.#timer = this.#components.clock.after(stepMs, () => {
      this.tick().finally(() => this.#again())
    })
  }

  /** Never rejects. */
  async #tick(): Promise<void> {
    const { clock, catalog, log } = this.#components
    const elapsedMs = clock.monotonicMs() - this.#countedMs
    this.#countedMs += elapsedMs
    const counted = [...this.#entries.values()].filter(({ leftMs }) => leftMs > 0)
    for (const entry of counted) entry.leftMs = Math.max(0, entry.leftMs - elapsedMs)
    try {
      if (counted.length > 0) {
        await catalog.write(counted.map(entry => this.#table.putOp(entry.what.image, entry)))
      }
    } catch (error) {
      log.warn('the time of the trash could not be written down', { error: asRowanError(error, 'STORE_IO') })
    }
    for (const { what, leftMs } of [...this.#entries.values()]) {
      if (leftMs === 0 && !this.#isStopped) await this.#empty(what)
    }
  }

  /** Never rejects. */
  async #empty({ image, appliance, version }: Omit<TrashedImage, 'leftMs'>): Promise<void> {
    const { isNeeded, directory, sweeper, swarm, images, log } = this.#components
    try {
      if (isNeeded(image)) {
        await this.#table.delete(image, { sync: true })
        this.#entries.delete(image)
        return
      }
      directory.withdrawReplica(image)
      const mayGo = () => !this.#isStopped && !isNeeded(image)
      const { freedBytes, isDone } = await sweeper.sweep(image, mayGo)
      if (!isDone || !mayGo() || !swarm.forget(image)) return
      if (!(await images.forget(image, () => [this.#table.deleteOp(image)]))) return
      this.#entries.delete(image)
      log.info('a removed release is gone from here', { appliance, version, image, freedBytes })
    } catch (error) {
      log.warn('a removed release could not be freed; it is tried again', { image, error: asRowanError(error) })
    }
  }

  /** Never rejects. */
  async #announce(image: string): Promise<void> {
    const { images, directory, log } = this.#components
    try {
      const local = await images.open(image)
      await local?.recount()
      if (local?.complete === true && this.#entries.has(image)) directory.announceReplica(image, undefined, true)
    } catch (error) {
      log.warn('an image in the trash could not be announced', { image, error: asRowanError(error) })
    }
  }
}

/** Undefined stands for an entry that cannot be read. */
export const trashCodec: Codec<Entry | undefined> = {
  encode: entry => Buffer.from(JSON.stringify(entry ?? null)),
  decode(bytes) {
    try {
      const { what, leftMs, isAnnounced } = JSON.parse(Buffer.from(bytes).toString()) as Entry
      const { image, appliance, version } = what
      if (![image, appliance, version].every(text => typeof text === 'string')) return undefined
      if (!Number.isFinite(leftMs) || leftMs < 0 || typeof isAnnounced !== 'boolean') return undefined
      return { what: { image, appliance, version }, leftMs, isAnnounced }
    } catch {
      return undefined
    }
  }
}
