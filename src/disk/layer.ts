/**
 * The layer of a machine that takes its writes.
 *
 *     data   sparse, each byte at its own offset on the disk; behind the last, at the next 4 KiB, the identity
 *     map    which sectors are absent, data or zero (layer-map-file.ts)
 *     log    what was acknowledged or flushed and is not in the map file yet (layer-log.ts)
 *
 * Its three promises, and what keeps them:
 *
 * 1. *A write that was acknowledged survives the death of the daemon.* A write is: data into the page cache, then the map
 *    in memory and, if the map changes by it, a note for the log. `settle` appends the notes of many writes at once, and
 *    only then they may be acknowledged. Opening the layer under the same boot id replays the log. The first flush then
 *    syncs the data file, whatever has changed: the dead daemon may have written to it without syncing.
 * 2. *A write that was flushed survives power loss; an unflushed sector is old or new.* A flush is a sync of the log, which
 *    then holds what was written, or of the data file and then of the log (layer-flushes.ts).
 *    A **checkpoint** empties the log behind them, beside writes and flushes (layer-checkpoints.ts). Where it does not keep
 *    up, `hasRoom` is false and writers wait for it.
 * 3. *After an error of fdatasync the layer is failed.* The kernel may have dropped what it could not write, and the
 *    next fdatasync would say all is well. So writes and flushes answer LAYER_FAILED until the layer is opened again;
 *    the log is marked, and opening falls back to the last finished flush: old or new, as after power loss (layer-syncs.ts).
 *
 * A full disk is no failure: the write (or the flush) says DISK_FULL, nothing before it is lost, and it can be repeated.
 * Writes to new sectors leave some of the disk free (disk-reserve.ts).
 *
 * Space of trimmed sectors is given back behind the guest's requests (hole-puncher.ts).
 *
 * Known limit: taking a mounted disk away (a pulled USB stick) loses the page cache under the same boot id, so what was
 * not flushed may come back as zeros.
 */
import { basename, dirname, join, resolve } from 'node:path'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { FlushOptions } from './block-device.ts'
import { DiskReserve } from './disk-reserve.ts'
import { LayerCheckpoints } from './layer-checkpoints.ts'
import { type LayerFile, type LayerFiles, systemFiles } from './layer-files.ts'
import { LayerFlushes } from './layer-flushes.ts'
import { encodeIdentity, IDENTITY_BYTES, identityPosition, type LayerIdentity } from './layer-identity.ts'
import { DEFAULT_LOG_AREA_BYTES, LayerLog } from './layer-log.ts'
import { type LayerMap, SECTOR_ABSENT, SECTOR_BYTES, SECTOR_DATA, SECTOR_ZERO, type SectorState } from './layer-map.ts'
import { LayerMapFile } from './layer-map-file.ts'
import { applyRecord, makeDurable, makeFile, OpeningFiles, openParts, writeAgain } from './layer-opening.ts'
import { LayerSyncs, layerFailed } from './layer-syncs.ts'
import type { PunchHoles } from './punch-tool.ts'
import type { SyncPlace } from './sync-place.ts'

export interface LayerComponents {
  log: Log
  /** /proc/sys/kernel/random/boot_id */
  bootId: string
  files?: LayerFiles
  /** Bytes that the machine's layers may still take, whatever is free on the disk; without it there is no quota. */
  quotaRoom?: () => number
  /** Where the log is synced; aside, if absent. */
  syncPlace?: SyncPlace | undefined
  /** How space of frozen layers is given back to the host; it stays allocated, if absent. */
  punch?: PunchHoles | undefined
}

export interface LayerLimits {
  /** Bytes of frames in one area of the log; part of the file's format. */
  logAreaBytes: number
  /** Changed pages at which writers wait: 64 GiB touched at random since the last checkpoint, 32 MiB of map. */
  maxChangedPages: number
  /** Pages that stay in memory though the map file says the same; see LayerMap. */
  maxCleanPages?: number
  /** Content of a flush that goes to the log; a larger one is a sync of the data file. */
  maxLoggedBytes: number
}

export const DEFAULT_LAYER_LIMITS: LayerLimits = {
  logAreaBytes: DEFAULT_LOG_AREA_BYTES,
  maxChangedPages: 8192,
  maxLoggedBytes: 128 * 1024
}

/** Folders of the layers that are open in this process. */
const openFolders = new Set<string>()

export class Layer {
  readonly map: LayerMap
  readonly #folder: string
  readonly #data: LayerFile
  readonly #mapFile: LayerMapFile
  readonly #pending: LayerLog
  readonly #reserve: DiskReserve
  readonly #flushes: LayerFlushes
  readonly #syncs: LayerSyncs
  readonly #checkpoints: LayerCheckpoints
  #closing: Promise<void> | undefined

  private constructor(
    folder: string,
    data: LayerFile,
    map: LayerMap,
    mapFile: LayerMapFile,
    pending: LayerLog,
    { log, syncPlace }: LayerComponents,
    limits: LayerLimits,
    reserve: DiskReserve
  ) {
    this.#folder = folder
    this.#data = data
    this.map = map
    this.#mapFile = mapFile
    this.#pending = pending
    this.#syncs = new LayerSyncs({ folder, data, mapFile, pending, log, syncPlace })
    const onSoftFailure = ({ code, message }: RowanError) =>
      log.warn(`the map of the layer ${basename(folder)} could not be written`, { code, message, folder })
    const { maxChangedPages } = limits
    this.#checkpoints = new LayerCheckpoints({
      map,
      mapFile,
      pending,
      syncs: this.#syncs,
      maxChangedPages,
      onSoftFailure
    })
    this.#reserve = reserve
    const { maxLoggedBytes } = limits
    const components = { folder, data, map, pending, syncs: this.#syncs, checkpoints: this.#checkpoints }
    this.#flushes = new LayerFlushes(components, { maxLoggedBytes })
  }

  /**
   * Makes the files of a layer that has nothing in it. They are all there and durable, or the folder does not exist.
   *
   * @param folder - of the layer itself, as `…/layers/0001`; its parent is there
   */
  static async create(
    folder: string,
    identity: LayerIdentity,
    files: LayerFiles = systemFiles,
    limits: LayerLimits = DEFAULT_LAYER_LIMITS
  ): Promise<void> {
    const unfinished = `${folder}.new`
    files.removeFolder(unfinished)
    files.makeFolder(unfinished)
    const make = (name: string, sizeBytes: number, fill: (file: LayerFile) => void) =>
      makeFile(files, join(unfinished, name), sizeBytes, fill)
    await make('data', identityPosition(identity.sizeBytes) + IDENTITY_BYTES, file =>
      file.writeSync(encodeIdentity('data', identity), 0, IDENTITY_BYTES, identityPosition(identity.sizeBytes))
    )
    await make('map', LayerMapFile.sizeBytes(identity.sizeBytes), file => LayerMapFile.create(file, identity))
    await make('log', LayerLog.sizeBytes(limits.logAreaBytes), file => LayerLog.create(file, identity))
    files.syncFolder(unfinished)
    files.rename(unfinished, folder)
    files.syncFolder(dirname(folder))
  }

  /**
   * Opens a layer and brings its map to what was last acknowledged (same boot), or last flushed.
   *
   * Throws LAYER_CORRUPT, naming the file, for files that are missing, cut short, damaged or not of this identity;
   * LAYER_IN_USE if this process has it open; LAYER_FAILED if what a failed layer left cannot be made durable.
   */
  static async open(
    components: LayerComponents,
    folder: string,
    identity: LayerIdentity,
    limits: LayerLimits = DEFAULT_LAYER_LIMITS
  ): Promise<Layer> {
    const files = components.files ?? systemFiles
    const place = resolve(folder)
    if (openFolders.has(place)) throw new RowanError('LAYER_IN_USE', `the layer ${folder} is open already`)
    openFolders.add(place)
    const opening = new OpeningFiles(files, folder)
    try {
      const { data, map, mapFile, pending } = await openParts(opening, components, identity, limits)
      const reserve = new DiskReserve(folder, files, components.quotaRoom)
      const layer = new Layer(folder, data, map, mapFile, pending, components, limits, reserve)
      await layer.#recover()
      return layer
    } catch (error) {
      opening.closeAll()
      openFolders.delete(place)
      throw error
    }
  }

  /** Why the layer takes no more writes, once an fdatasync failed. */
  get failure(): RowanError | undefined {
    return this.#syncs.failure
  }

  get dataFile(): LayerFile {
    return this.#data
  }

  get name(): string {
    return basename(this.#folder)
  }

  get dataPath(): string {
    return this.#data.path
  }

  /** What its data and its log take on the host's disk; the map beside them is a two-thousandth of what was written. */
  get allocatedBytes(): number {
    return this.#data.allocatedBytes + this.#pending.allocatedBytes
  }

  /** What of its data waits in the host's page cache, at most. */
  get unsyncedBytes(): number {
    return this.#syncs.unsyncedBytes
  }

  /** Whether nothing was ever written to it. */
  get isEmpty(): boolean {
    return this.map.allAre(SECTOR_ABSENT, 0, this.map.sectors)
  }

  /** It takes no more writes, as after an error of fdatasync: what it stands on may not be what is on the disk. */
  fail(error: unknown): void {
    if (this.failure === undefined) this.#syncs.fail(error)
  }

  /** Whether a request may change the map now; if not, `makeRoom` first. */
  get hasRoom(): boolean {
    return this.#checkpoints.hasRoom
  }

  /** Brings the log into the map file until there is room. */
  async makeRoom(): Promise<void> {
    while (!this.hasRoom) await this.#checkpoints.run()
  }

  /** Fills part of `target` from the data file; meaningful only for sectors whose state is data. */
  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void {
    this.#data.readSync(target, targetOffset, length, position)
  }

  /**
   * Takes whole sectors. `position` is a multiple of 512; `data` ends with a sector, or with the disk. To be
   * acknowledged, in the sense of promise 1, after `settle`. DISK_FULL, STORE_IO: each sector is old or new;
   * LAYER_FAILED, DISK_CLOSED.
   */
  writeSync(position: number, data: Uint8Array): void {
    this.#checkWritable()
    const [start, end] = [position / SECTOR_BYTES, Math.ceil((position + data.length) / SECTOR_BYTES)]
    const isNew = !this.map.allAre(SECTOR_DATA, start, end)
    if (isNew) {
      this.map.bringIn(start, end)
      this.#reserve.take(data.length)
    }
    try {
      this.#data.writeSync(data, 0, data.length, position)
    } catch (error) {
      // Each sector is old or new.
      this.#flushes.anythingMayBeUnflushed()
      throw error
    }
    this.#flushes.wrote(start, end, data)
    this.#syncs.wrote(data.length)
    if (isNew) this.#setState(start, end, SECTOR_DATA)
  }

  /** The sectors read as zeros from now on. Errors as `writeSync`. */
  zeroSync(start: number, end: number): void {
    this.#checkWritable()
    if (this.map.allAre(SECTOR_ZERO, start, end)) return
    this.map.bringIn(start, end)
    this.#setState(start, end, SECTOR_ZERO)
  }

  /** What was written or zeroed before the call may be acknowledged. If it throws, nothing may, and nothing is lost. */
  settle(): void {
    this.#pending.settle()
  }

  /** See LayerFlushes. */
  flush(): Promise<void> {
    return this.#flushes.flush()
  }

  /** See LayerFlushes. */
  flushHere(): boolean {
    return this.#flushes.flushHere()
  }

  /** See LayerFlushes. */
  flushRange(start: number, end: number, content?: Uint8Array, options?: FlushOptions): void | Promise<void> {
    this.#checkWritable()
    return this.#flushes.flushRange(start, end, content, options)
  }

  /** As `flush`, and all of it is in the data and the map file: the log says nothing more. Errors as `flush`. */
  async persist(): Promise<void> {
    await this.flush()
    // One that runs may have begun too early.
    await this.#checkpoints.idle()
    if (this.#checkpoints.isDue) await this.#checkpoints.run()
  }

  /** Persists what there is and closes the files. They are closed also when the flush fails, whose error is thrown then. */
  close(): Promise<void> {
    this.#closing ??= this.#flushAndClose()
    return this.#closing
  }

  async #flushAndClose(): Promise<void> {
    try {
      if (this.failure === undefined) await this.persist()
    } finally {
      await this.#flushes.idle()
      await this.#checkpoints.idle()
      // A write with FUA waits for a sync of its own.
      await this.#syncs.idle()
      this.#flushes.close()
      this.#data.close()
      this.#mapFile.close()
      this.#pending.close()
      openFolders.delete(resolve(this.#folder))
    }
  }

  #checkWritable(): void {
    if (this.failure !== undefined) throw this.failure
    if (this.#closing !== undefined) throw new RowanError('DISK_CLOSED', `the layer ${this.#folder} is closed`)
  }

  #setState(start: number, end: number, state: SectorState): void {
    this.#pending.add(start, end - start, state)
    this.map.set(start, end, state)
    this.#checkpoints.changed()
  }

  async #recover(): Promise<void> {
    const condition = this.#pending.condition
    if (condition === 'same-boot') {
      this.#pending.replay(record => applyRecord(this.map, record, join(this.#folder, 'log')))
      this.#flushes.anythingMayBeUnflushed()
      this.#checkpoints.mapMayBeUnsynced()
      return
    }
    const found = this.#pending.recover(
      record => applyRecord(this.map, record, join(this.#folder, 'log')),
      (position, bytes) => this.#data.writeSync(bytes, 0, bytes.length, position)
    )
    if (found || condition === 'failed') {
      try {
        // What the cache says in spite of all may be missing on the disk, where nothing would write it again.
        if (condition === 'failed') {
          this.#mapFile.markAllChanged(this.map)
          await writeAgain(this.#data, this.map)
        }
        await makeDurable(this.#data, this.map, this.#mapFile)
      } catch (error) {
        throw asRowanError(error).code === 'LAYER_CORRUPT' ? error : layerFailed(this.#folder, error)
      }
    }
    this.#pending.begin()
    if (found || condition === 'failed') await this.#pending.sync()
  }
}
