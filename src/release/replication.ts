/**
 * The images that this peer has promised to keep whole and serve.
 *
 * The promise is in the catalog before anything is fetched, so it is taken up again after a restart: an image that is
 * whole is announced at once, another is completed first. Few images are completed at a time. What fails (no replica in
 * reach, no room) is tried again later, for as long as the promise stands.
 *
 * Owns: the list. Does not own: fetching (swarm), announcing (directory), eviction (whoever evicts asks `has`).
 */
import type { ReplicaRecord } from '../directory/replica-record.ts'
import type { Clock, Log, Timer } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type Catalog, jsonCodec, type Table } from '../store/catalog.ts'

export const MAX_REPLICATED_IMAGES = 1024
const FILLS_AT_ONCE = 2
const RETRY_MS = 30_000

/** What is promised: an image, as a release of an appliance. */
export interface ReplicatedImage {
  /** `PUBLISHER/NAME`. */
  appliance: string
  version: string
  image: string
}

export interface ReplicationState extends ReplicatedImage {
  complete: boolean
  /** Data blocks that are here, and in all; undefined before the image was opened. */
  local: { blocks: number; of: number } | undefined
  /** Why it does not go on at the moment. */
  problem: RowanError | undefined
}

interface OpenImage {
  readonly complete: boolean
  readonly local: { blocks: number; of: number }
  recount(): Promise<void>
}

interface Components {
  catalog: Catalog
  swarm: {
    openImage(id: string, hints: ReplicaRecord[], options: { signal: AbortSignal }): Promise<OpenImage>
    fill(
      image: string,
      options: { signal: AbortSignal; onProgress?: (done: number, of: number) => void }
    ): Promise<void>
  }
  pool: { sync(): Promise<void> }
  directory: {
    announceReplica(image: string, appliance: string | undefined, complete: boolean): void
    withdrawReplica(image: string): void
  }
  /** Whether the image is served from here for another reason too: a machine uses it, or it is a release of one's own. */
  isServedAnyway(image: string): boolean
  clock: Clock
  log: Log
}

/** As it is kept: the first promise, and those of other releases with the very same image. */
interface KeptPromises extends ReplicatedImage {
  also?: Pick<ReplicatedImage, 'appliance' | 'version'>[]
}

/** An image, and all that was promised of it: releases of one content are one image. */
interface Entry {
  /** At least one. */
  promises: ReplicatedImage[]
  hints: ReplicaRecord[]
  open: OpenImage | undefined
  state: 'waiting' | 'running' | 'complete'
  problem: RowanError | undefined
  timer: Timer | undefined
  readonly controller: AbortController
  readonly watchers: Set<Watcher>
}

/** Somebody who waits for an image to be whole, or for the first failure. */
interface Watcher {
  onProgress: ((done: number, of: number) => void) | undefined
  ended: PromiseWithResolvers<void>
}

export class Replication {
  readonly #components: Components
  readonly #table: Table<KeptPromises>
  readonly #entries = new Map<string, Entry>()
  readonly #running = new Set<Promise<void>>()
  #isStarted = false

  private constructor(components: Components) {
    this.#components = components
    this.#table = components.catalog.table('replicated', jsonCodec<KeptPromises>())
  }

  /** @throws RowanError CATALOG_CORRUPT, STORE_IO */
  static async open(components: Components): Promise<Replication> {
    const replication = new Replication(components)
    for await (const [image, { also = [], ...what }] of replication.#table.entries()) {
      replication.#entries.set(image, newEntry([what, ...also.map(each => ({ ...each, image }))], []))
    }
    return replication
  }

  start(): void {
    this.#isStarted = true
    this.#fillMore()
  }

  /** Stops fetching, and waits until nothing runs any more. The promises stand. */
  async stop(): Promise<void> {
    this.#isStarted = false
    for (const entry of this.#entries.values()) abandon(entry)
    await Promise.allSettled(this.#running)
  }

  /** Whether this image must stay whole. */
  has(image: string): boolean {
    return this.#entries.has(image)
  }

  list(): ReplicationState[] {
    return [...this.#entries.values()].flatMap(({ promises, open, state, problem }) =>
      promises.map(what => ({ ...what, complete: state === 'complete', local: open?.local, problem }))
    )
  }

  /**
   * Promises to keep an image whole; with `wait` resolves once it is.
   *
   * @param replicas - where it may be had
   * @throws RowanError LIMIT_EXCEEDED, DISK_FULL; with `wait`, also what stops it for now (it is tried again all the
   *   same), and ABORTED when `signal` fires, which only ends the waiting
   */
  async replicate(
    what: ReplicatedImage,
    replicas: ReplicaRecord[],
    options: { wait?: boolean; onProgress?: (done: number, of: number) => void; signal?: AbortSignal } = {}
  ): Promise<ReplicatedImage & { complete: boolean }> {
    const entry = await this.#promise(what, replicas)
    entry.hints = replicas
    const watching = options.wait === true && entry.state !== 'complete' ? watch(entry, options) : undefined
    entry.timer?.cancel()
    entry.timer = undefined
    this.#fillMore()
    await watching
    return { ...what, complete: entry.state === 'complete' }
  }

  /** The entry of an image, with this promise among those that are kept. */
  async #promise(what: ReplicatedImage, replicas: ReplicaRecord[]): Promise<Entry> {
    const known = this.#entries.get(what.image)
    if (known?.promises.some(each => isSame(each, what))) return known
    if (this.list().length >= MAX_REPLICATED_IMAGES) {
      throw new RowanError('LIMIT_EXCEEDED', `${MAX_REPLICATED_IMAGES} replicated images is the limit`)
    }
    const entry = known ?? newEntry([], replicas)
    entry.promises = [...entry.promises, what]
    this.#entries.set(what.image, entry)
    try {
      await this.#keep(entry)
    } catch (error) {
      entry.promises = entry.promises.filter(each => each !== what)
      if (entry.promises.length === 0) this.#entries.delete(what.image)
      throw error
    }
    return entry
  }

  async #keep({ promises }: Entry): Promise<void> {
    const [first, ...rest] = promises
    const also = rest.map(({ appliance, version }) => ({ appliance, version }))
    await this.#table.put(first!.image, { ...first!, ...(also.length > 0 ? { also } : {}) }, { sync: true })
  }

  /**
   * Takes back what was promised of an appliance: of one version, or of all. Returns what stood.
   *
   * @throws RowanError NOT_REPLICATED if nothing did; STORE_IO
   */
  async end(appliance: string, version?: string): Promise<ReplicatedImage[]> {
    const ended = [...this.#entries.values()]
      .flatMap(({ promises }) => promises)
      .filter(what => what.appliance === appliance && (version === undefined || what.version === version))
    if (ended.length === 0) {
      const what = version === undefined ? appliance : `${appliance}@${version}`
      throw new RowanError('NOT_REPLICATED', `this peer has not promised to keep ${what}`)
    }
    for (const what of ended) await this.forget(what)
    return ended
  }

  /**
   * Takes a promise back. With the last one of an image its blocks may go, and it is not announced for the promises' sake
   * any more.
   */
  async forget(what: ReplicatedImage): Promise<void> {
    const { image } = what
    const entry = this.#entries.get(image)
    if (entry === undefined) return
    const left = entry.promises.filter(each => !isSame(each, what))
    if (left.length > 0) {
      entry.promises = left
      return await this.#keep(entry)
    }
    this.#entries.delete(image)
    abandon(entry)
    const { directory, isServedAnyway } = this.#components
    if (!isServedAnyway(image)) directory.withdrawReplica(image)
    await this.#table.delete(image, { sync: true })
  }

  #fillMore(): void {
    for (const entry of this.#entries.values()) {
      if (!this.#isStarted || this.#running.size >= FILLS_AT_ONCE) return
      if (entry.state !== 'waiting' || entry.timer !== undefined) continue
      entry.state = 'running'
      const run = this.#complete(entry)
      this.#running.add(run)
      run.finally(() => {
        this.#running.delete(run)
        this.#fillMore()
      })
    }
  }

  /** Never rejects. */
  async #complete(entry: Entry): Promise<void> {
    const { swarm, pool, directory, clock, log } = this.#components
    const { image, appliance, version } = entry.promises[0]!
    const { signal } = entry.controller
    try {
      entry.open = await swarm.openImage(image, entry.hints, { signal })
      await entry.open.recount()
      signal.throwIfAborted()
      if (!entry.open.complete) {
        directory.announceReplica(image, appliance, false)
        const onProgress = (done: number, of: number) => {
          for (const watcher of entry.watchers) watcher.onProgress?.(done, of)
        }
        await swarm.fill(image, { signal, onProgress })
        await pool.sync()
      }
      signal.throwIfAborted()
      directory.announceReplica(image, appliance, true)
      entry.state = 'complete'
      entry.problem = undefined
      for (const { ended } of entry.watchers) ended.resolve()
      log.info('an image is whole here', { image, appliance, version })
    } catch (error) {
      entry.state = 'waiting'
      entry.problem = asRowanError(error, 'INTERNAL', `replicating ${appliance}@${version}`)
      for (const { ended } of entry.watchers) ended.reject(entry.problem)
      if (signal.aborted) return
      log.warn('an image cannot be completed now; it is tried again', { image, appliance, error: entry.problem })
      entry.timer = clock.after(RETRY_MS, () => {
        entry.timer = undefined
        this.#fillMore()
      })
    }
  }
}

function isSame(one: ReplicatedImage, other: ReplicatedImage): boolean {
  return one.appliance === other.appliance && one.version === other.version
}

function newEntry(promises: ReplicatedImage[], hints: ReplicaRecord[]): Entry {
  return {
    promises,
    hints,
    open: undefined,
    state: 'waiting',
    problem: undefined,
    timer: undefined,
    controller: new AbortController(),
    watchers: new Set()
  }
}

function abandon(entry: Entry): void {
  entry.timer?.cancel()
  entry.controller.abort()
  const { appliance, version } = entry.promises[0]!
  for (const { ended } of entry.watchers) {
    ended.reject(new RowanError('ABORTED', `completing ${appliance}@${version} was stopped`))
  }
}

async function watch(
  entry: Entry,
  options: { onProgress?: (done: number, of: number) => void; signal?: AbortSignal }
): Promise<void> {
  const { signal } = options
  const watcher: Watcher = { onProgress: options.onProgress, ended: Promise.withResolvers() }
  const stop = () =>
    watcher.ended.reject(new RowanError('ABORTED', `${entry.promises[0]!.image} is completed unwatched`))
  entry.watchers.add(watcher)
  signal?.addEventListener('abort', stop, { once: true })
  if (signal?.aborted === true) stop()
  try {
    await watcher.ended.promise
  } finally {
    entry.watchers.delete(watcher)
    signal?.removeEventListener('abort', stop)
  }
}
