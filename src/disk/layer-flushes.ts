/**
 * Makes durable what a layer has acknowledged: the second of its promises (layer.ts).
 *
 * A flush of few sectors appends their content to the log and syncs the log: one sync, of blocks in a row. A flush of many
 * syncs the data file, then appends a barrier to the log and syncs that. A flush that is asked for while one runs would miss
 * what was acknowledged since it began, so it waits and then runs one more, for all who came meanwhile. A write with FUA is
 * a flush of its own sectors alone (`flushRange`).
 *
 * Somebody who waits alone need not be waited for: where the sync is quick (sync-place.ts), it is made before the call
 * returns: no promise, and no further turn of the event loop, which for what is small is a seventh of the time.
 *
 * Owns: what was written since the last flush. The files are the layer's.
 */
import { RowanError } from '../errors.ts'
import type { FlushOptions } from './block-device.ts'
import type { LayerCheckpoints } from './layer-checkpoints.ts'
import type { LayerFile } from './layer-files.ts'
import { LayerLog, type SectorRange } from './layer-log.ts'
import { type LayerMap, SECTOR_BYTES, SECTOR_DATA } from './layer-map.ts'
import type { LayerSyncs } from './layer-syncs.ts'
import { SharedRun } from './shared-run.ts'
import { UnflushedRanges } from './unflushed-ranges.ts'

export interface LayerFlushesComponents {
  /** Of the layer, for messages. */
  folder: string
  data: LayerFile
  map: LayerMap
  pending: LayerLog
  syncs: LayerSyncs
  checkpoints: LayerCheckpoints
}

/** `content`: undefined for what was written just now, and has not left the page cache. */
type Written = SectorRange & { content: Uint8Array | undefined }

export class LayerFlushes {
  readonly #components: LayerFlushesComponents
  readonly #maxLoggedSectors: number
  readonly #unflushed: UnflushedRanges
  readonly #running = new SharedRun(() => this.#flushOnce())
  #isClosed = false

  /** @param settings.maxLoggedBytes - see LayerLimits */
  constructor(components: LayerFlushesComponents, settings: { maxLoggedBytes: number }) {
    this.#components = components
    this.#maxLoggedSectors = settings.maxLoggedBytes / SECTOR_BYTES
    this.#unflushed = new UnflushedRanges(this.#maxLoggedSectors)
  }

  /** To be called when sectors are written. */
  wrote(start: number, end: number, data: Uint8Array): void {
    this.#unflushed.add(start, end, data)
  }

  /** A dead daemon may have written anything without syncing it; so may a write that failed. */
  anythingMayBeUnflushed(): void {
    this.#unflushed.addAll()
  }

  /** All that was acknowledged before the call is durable when it is done. LAYER_FAILED, DISK_FULL, DISK_CLOSED. */
  flush(): Promise<void> {
    return this.#running.run()
  }

  /** `flush` of few sectors before it returns, if none runs and the sync is quick. @returns whether it did. Errors as `flush` */
  flushHere(): boolean {
    const { pending, syncs } = this.#components
    if (!this.#running.isIdle || this.#isClosed || !syncs.mayLogHere) return false
    const ranges = this.#unflushed.take()
    let isDone = false
    try {
      isDone = ranges !== 'many' && this.#appendContent(ranges)
      if (isDone && !pending.isSynced) syncs.logHere()
    } finally {
      if (!isDone || !pending.isSynced) this.#unflushed.addAll()
    }
    return isDone
  }

  /**
   * What these sectors hold now is durable when it is done, whatever else was written. Errors as `flush`.
   *
   * A write with FUA promises no more, and so it does not wait for what others have written.
   *
   * @param content - what they hold, if that is at hand
   */
  flushRange(start: number, end: number, content?: Uint8Array, options?: FlushOptions): void | Promise<void> {
    const { pending, syncs } = this.#components
    if (!this.#appendContent([{ start, count: end - start, content }])) return this.flush()
    this.#unflushed.forget(start, end)
    if (pending.isSynced) return
    if (options?.alone !== true || !syncs.mayLogHere) return syncs.log()
    syncs.logHere()
  }

  /** Done when no flush runs, nor waits to. */
  idle(): Promise<void> {
    return this.#running.idle()
  }

  /** Refuses flushes from now on: the files are about to be closed. */
  close(): void {
    this.#isClosed = true
  }

  /** Everything up to the first `await` is the freeze. */
  async #flushOnce(): Promise<void> {
    const { folder, pending, syncs } = this.#components
    if (syncs.failure !== undefined) throw syncs.failure
    if (this.#isClosed) throw new RowanError('DISK_CLOSED', `the layer ${folder} is closed`)
    if (this.#unflushed.isEmpty && pending.isSynced) return
    const ranges = this.#unflushed.take()
    try {
      if (ranges === 'many' || !this.#appendContent(ranges)) {
        const mark = pending.mark()
        await syncs.data()
        pending.appendBarrier(mark)
      }
      if (!pending.isSynced) await syncs.log()
    } catch (error) {
      this.#unflushed.addAll()
      throw syncs.failure ?? error
    }
  }

  /** Puts what was written to few sectors, or, where that is not at hand, what they hold now into the log; false where that cannot be done. */
  #appendContent(ranges: readonly Written[]): boolean {
    const { data, pending, checkpoints } = this.#components
    const contents = ranges.flatMap(range => this.#dataRuns(range))
    if (contents.length === 0) {
      pending.settle()
      return true
    }
    const sectors = contents.reduce((sum, { count }) => sum + count, 0)
    if (sectors > this.#maxLoggedSectors || LayerLog.contentBytes(contents) > pending.roomBytes) return false
    pending.appendContent(contents, (target, offset, length, position, index) => {
      const { content } = contents[index]!
      if (content === undefined) data.readSync(target, offset, length, position)
      else target.set(content.subarray(0, length), offset)
    })
    checkpoints.changed()
    return true
  }

  /** The runs of data in a range. What has become zero since is in the log already. */
  #dataRuns({ start, count, content }: Written): Written[] {
    const { map } = this.#components
    const end = start + count
    const runs: Written[] = []
    for (let at = start; at < end; ) {
      const runEnd = map.runEnd(at, end)
      if (map.stateAt(at) === SECTOR_DATA) {
        const part = content?.subarray((at - start) * SECTOR_BYTES, (runEnd - start) * SECTOR_BYTES)
        runs.push({ start: at, count: runEnd - at, content: part })
      }
      at = runEnd
    }
    return runs
  }
}
