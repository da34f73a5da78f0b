/**
 * The syncs of a layer's three files, and whether the layer has failed.
 *
 * Syncs of one file never overlap, since Linux tells an error of the disk to only one of those who wait; who comes while one
 * runs shares the next (shared-run.ts). After any error of a sync, a full disk too, the kernel may have dropped what it
 * could not write, and the next one would say that all is well. So the layer is failed then, its log is marked, and
 * nothing is synced any more.
 *
 * Owns: the failure, and how much no sync has covered yet. The files are the layer's.
 */
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'
import type { LayerLog } from './layer-log.ts'
import type { LayerMapFile } from './layer-map-file.ts'
import { SharedRun } from './shared-run.ts'
import type { SyncPlace } from './sync-place.ts'

export interface LayerSyncsComponents {
  /** Of the layer, for messages. */
  folder: string
  data: LayerFile
  mapFile: LayerMapFile
  pending: LayerLog
  log: Log
  /** Where the log is synced; aside, if absent. */
  syncPlace: SyncPlace | undefined
}

export class LayerSyncs {
  readonly #components: LayerSyncsComponents
  readonly #data: SharedRun
  readonly #pending: SharedRun
  #failure: RowanError | undefined
  #unsyncedBytes = 0

  constructor(components: LayerSyncsComponents) {
    this.#components = components
    this.#data = new SharedRun(() => this.#syncData())
    const { pending, syncPlace } = components
    this.#pending = new SharedRun(() => this.#sync({ sync: () => pending.sync(syncPlace) }), { startsLater: true })
  }

  /** Why the layer takes no more writes. */
  get failure(): RowanError | undefined {
    return this.#failure
  }

  /** Bytes that were written to the data file and that no sync has covered; what was written twice counts twice. */
  get unsyncedBytes(): number {
    return this.#unsyncedBytes
  }

  /** So much was written to the data file. */
  wrote(bytes: number): void {
    this.#unsyncedBytes += bytes
  }

  /** What was written to the data file before the call is durable when it is done. LAYER_FAILED. */
  data(): Promise<void> {
    return this.#data.run()
  }

  /** As `data`, of the log. */
  log(): Promise<void> {
    return this.#pending.run()
  }

  /** Whether the log would be synced in this thread, no sync of it runs, and the layer has not failed. */
  get mayLogHere(): boolean {
    return this.#components.syncPlace?.isHere === true && this.#pending.isIdle && this.#failure === undefined
  }

  /** As `log`, before it returns; only where `mayLogHere`. */
  logHere(): void {
    const { pending, syncPlace } = this.#components
    try {
      pending.syncHere(syncPlace!)
    } catch (error) {
      this.fail(error)
      throw this.#failure
    }
  }

  /** As `data`, of the map file, for which nobody but a checkpoint asks. */
  map(): Promise<void> {
    return this.#sync(this.#components.mapFile)
  }

  /** Done when no file is being synced: then they may be closed. */
  async idle(): Promise<void> {
    await this.#data.idle()
    await this.#pending.idle()
  }

  /** The layer takes no more writes. */
  fail(error: unknown): void {
    const { folder, pending, log } = this.#components
    this.#failure = layerFailed(folder, error)
    log.warn(this.#failure.message, { code: this.#failure.code, folder })
    try {
      pending.markFailed()
    } catch (markError) {
      const { code, message } = asRowanError(markError)
      log.warn('a failed layer could not be marked as failed', { code, message, folder })
    }
  }

  async #syncData(): Promise<void> {
    const covered = this.#unsyncedBytes
    await this.#sync(this.#components.data)
    this.#unsyncedBytes -= covered
  }

  async #sync(file: { sync(): Promise<void> }): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      await file.sync()
    } catch (error) {
      this.fail(error)
      throw this.#failure
    }
  }
}

export function layerFailed(folder: string, error: unknown): RowanError {
  const { message } = asRowanError(error)
  return new RowanError('LAYER_FAILED', `the layer ${folder} takes no more writes: ${message}`, { cause: error })
}
