/**
 * Brings what a layer's log says into its map file, while writes and flushes go on.
 *
 * A checkpoint takes the changed map pages as they are (freeze) and turns the log to its other area, makes the data durable,
 * says so with a barrier, and only then writes and syncs those very pages; then the log's older area is free. Records that
 * the map file does not point at yet are written beside the data.
 *
 * What the changed pages and the log need is bounded: at a soft mark a checkpoint starts by itself, at the hard one
 * `hasRoom` is false and writers wait for it. One that started by itself and did not succeed is not tried again before the
 * hard mark.
 *
 * Owns: the checkpoint that runs, and whether the map file is durable as it is. One runs at a time.
 */
import type { RowanError } from '../errors.ts'
import { asRowanError } from '../errors.ts'
import { allDone } from './all-done.ts'
import type { LayerLog } from './layer-log.ts'
import type { FrozenPage, LayerMap } from './layer-map.ts'
import type { LayerMapFile } from './layer-map-file.ts'
import type { LayerSyncs } from './layer-syncs.ts'

/**
 * A request changes the map by a partial sector at each end and what is between: three entries of the log, or, since one reaches no
 * farther than 2 TiB, seven for all of the largest disk.
 */
const REQUEST_LOG_BYTES = 128
/** Of the log's area. The other one takes what comes while the checkpoint runs. */
const LOG_SOFT_MARK = 0.75
/** Of the changed pages, which have no other place to go. */
const PAGES_SOFT_MARK = 0.5

export interface LayerCheckpointsComponents {
  map: LayerMap
  mapFile: LayerMapFile
  pending: LayerLog
  syncs: LayerSyncs
  maxChangedPages: number
  /** Hears why one that nobody asked for did not succeed. */
  onSoftFailure: (error: RowanError) => void
}

export class LayerCheckpoints {
  readonly #map: LayerMap
  readonly #mapFile: LayerMapFile
  readonly #pending: LayerLog
  readonly #syncs: LayerSyncs
  readonly #maxChangedPages: number
  readonly #onSoftFailure: (error: RowanError) => void
  #running: Promise<void> | undefined
  #softFailed = false
  #mapUnsynced = false

  constructor({ map, mapFile, pending, syncs, maxChangedPages, onSoftFailure }: LayerCheckpointsComponents) {
    this.#map = map
    this.#mapFile = mapFile
    this.#pending = pending
    this.#syncs = syncs
    this.#maxChangedPages = maxChangedPages
    this.#onSoftFailure = onSoftFailure
  }

  /** Whether a request may change the map now. */
  get hasRoom(): boolean {
    return this.#pending.roomBytes >= REQUEST_LOG_BYTES && this.#map.changedPages < this.#maxChangedPages
  }

  /** There is something that the map file does not say. */
  get isDue(): boolean {
    return this.#pending.hasContent || this.#map.changedPages > 0
  }

  /** A dead daemon may have left something of the map file in the cache alone. */
  mapMayBeUnsynced(): void {
    this.#mapUnsynced = true
  }

  /** To be called after each change: begins one at the soft mark. */
  changed(): void {
    if (this.#atSoftMark && this.#running === undefined && !this.#softFailed) this.#runByItself()
  }

  /** Done when one that runs, or begins now, is. LAYER_FAILED, DISK_FULL. */
  run(): Promise<void> {
    if (this.#syncs.failure !== undefined) return Promise.reject(this.#syncs.failure)
    this.#running ??= this.#runOnce().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Done when the one that runs now has ended, well or badly. */
  async idle(): Promise<void> {
    await Promise.allSettled([this.#running])
  }

  get #atSoftMark(): boolean {
    const maxPages = this.#maxChangedPages * PAGES_SOFT_MARK
    return this.#pending.fill >= LOG_SOFT_MARK || this.#map.changedPages >= maxPages
  }

  #runByItself(): void {
    this.run().catch((error: unknown) => {
      this.#softFailed = true
      this.#onSoftFailure(asRowanError(error))
    })
  }

  /** Everything up to the first `await` is the freeze. */
  async #runOnce(): Promise<void> {
    const mark = this.#pending.mark()
    this.#pending.rotate()
    const pages = this.#map.freeze()
    try {
      await allDone([this.#syncs.data(), this.#prepare(pages)])
      // The barrier first: what the log says must never be older than what the map file says.
      this.#pending.appendBarrier(mark)
      if (!this.#pending.isSynced) await this.#syncs.log()
      if (pages.length > 0) {
        this.#mapUnsynced = true
        await this.#mapFile.write(pages)
      }
      if (this.#mapUnsynced) await this.#syncs.map()
      this.#mapUnsynced = false
      this.#map.thaw()
      this.#pending.appendObsolete()
      await this.#syncs.log()
      this.#pending.freeOlder()
      this.#softFailed = false
    } catch (error) {
      this.#map.thaw(pages)
      if (this.#syncs.failure === undefined && asRowanError(error).code !== 'DISK_FULL') this.#syncs.fail(error)
      throw this.#syncs.failure ?? error
    }
  }

  async #prepare(pages: FrozenPage[]): Promise<void> {
    // On the disk a page may still have a record that in the cache it has not: it must not be overwritten before the data
    // that the new one speaks of is durable.
    if (this.#mapUnsynced) await this.#syncs.map()
    this.#mapUnsynced = false
    await this.#mapFile.prepare(pages, () => this.#syncs.map())
  }
}
