/**
 * The layer of a machine that takes its writes.
 *
 *     data   sparse, each byte at its own offset on the disk; behind the last, at the next 4 KiB, the identity
 *     map    which sectors are absent, data or zero (layer-map-file.ts)
 *     log    changes of the map that were acknowledged and are not in the map file yet (layer-log.ts)
 *
 * Its three promises, and what keeps them:
 *
 * 1. *A write that was acknowledged survives the death of the daemon.* A write is: data into the page cache, then, if
 *    the map changes by it, a record into the log, then the map in memory, then the acknowledgement. Opening the layer
 *    under the same boot id replays the log. The first flush then syncs both files, whatever has changed: the dead
 *    daemon may have written to them without syncing.
 * 2. *A write that was flushed survives power loss; an unflushed sector is old or new.* FLUSH takes the changed map
 *    pages as they are (freeze), makes all data durable, and only then writes and syncs those very pages: a page on disk
 *    never points at data that is not there. Writes go on meanwhile, into pages that are changed for the next flush and
 *    into the next generation of the log. A flush that is asked for while one runs would miss what was acknowledged
 *    since its freeze, so it waits and then runs one more, for all who came meanwhile.
 * 3. *After an error of fdatasync the layer is failed.* The kernel may have dropped what it could not write, and the
 *    next fdatasync would say all is well. So writes and flushes answer LAYER_FAILED until the layer is opened again;
 *    the log is marked, and opening falls back to the last finished flush: old or new, as after power loss.
 *
 * What the changed pages and the log need is bounded: at a soft mark a flush starts by itself, at the hard one
 * `hasRoom` is false and writers wait for it.
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
import { DiskReserve } from './disk-reserve.ts'
import { type LayerFile, type LayerFiles, systemFiles } from './layer-files.ts'
import { checkIdentity, checkSize, encodeIdentity, IDENTITY_BYTES, type LayerIdentity } from './layer-identity.ts'
import { DEFAULT_LOG_AREA_RECORDS, LayerLog, type LogRecord } from './layer-log.ts'
import {
  type FrozenPage,
  LayerMap,
  SECTOR_ABSENT,
  SECTOR_BYTES,
  SECTOR_DATA,
  SECTOR_ZERO,
  type SectorState
} from './layer-map.ts'
import { LayerMapFile } from './layer-map-file.ts'

export interface LayerComponents {
  log: Log
  /** /proc/sys/kernel/random/boot_id */
  bootId: string
  files?: LayerFiles
  /** Bytes that the machine's layers may still take, whatever is free on the disk; without it there is no quota. */
  quotaRoom?: () => number
}

export interface LayerLimits {
  /** Records in one area of the log; part of the file's format. */
  logAreaRecords: number
  /** Changed pages at which writers wait: 64 GiB touched at random since the last flush, 32 MiB of map. */
  maxChangedPages: number
}

export const DEFAULT_LAYER_LIMITS: LayerLimits = { logAreaRecords: DEFAULT_LOG_AREA_RECORDS, maxChangedPages: 32_768 }

/** A request changes the map by at most this many records: a partial sector at each end, and what is between. */
const MAX_RECORDS_PER_REQUEST = 3
/** Of each limit; where it is reached, a flush starts by itself. */
const SOFT_MARK = 0.5

/** Folders of the layers that are open in this process. */
const openFolders = new Set<string>()

export class Layer {
  readonly map: LayerMap
  readonly #folder: string
  readonly #data: LayerFile
  readonly #mapFile: LayerMapFile
  readonly #pending: LayerLog
  readonly #log: Log
  readonly #limits: LayerLimits
  readonly #reserve: DiskReserve
  /** Since the freeze of the last flush something was written that only fdatasync makes durable. */
  #dataUnsynced = true
  #mapUnsynced = true
  #running: Promise<void> | undefined
  #queued: Promise<void> | undefined
  /** A flush that nobody asked for did not succeed: the next one waits for the hard mark. */
  #softFlushFailed = false
  #failure: RowanError | undefined
  #closing: Promise<void> | undefined
  #closed = false

  private constructor(
    folder: string,
    data: LayerFile,
    map: LayerMap,
    mapFile: LayerMapFile,
    pending: LayerLog,
    log: Log,
    limits: LayerLimits,
    reserve: DiskReserve
  ) {
    this.#folder = folder
    this.#data = data
    this.map = map
    this.#mapFile = mapFile
    this.#pending = pending
    this.#log = log
    this.#limits = limits
    this.#reserve = reserve
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
    const make = async (name: string, sizeBytes: number, fill: (file: LayerFile) => void) => {
      const file = files.create(join(unfinished, name), sizeBytes)
      try {
        fill(file)
        await file.sync()
      } finally {
        file.close()
      }
    }
    await make('data', identityPosition(identity.sizeBytes) + IDENTITY_BYTES, file =>
      file.writeSync(encodeIdentity('data', identity), 0, IDENTITY_BYTES, identityPosition(identity.sizeBytes))
    )
    await make('map', LayerMapFile.sizeBytes(identity.sizeBytes), file => LayerMapFile.create(file, identity))
    await make('log', LayerLog.sizeBytes(limits.logAreaRecords), file => LayerLog.create(file, identity))
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
    const opened: { close(): void }[] = []
    try {
      const openFile = (name: string) => {
        const path = join(folder, name)
        if (!files.exists(path)) throw new RowanError('LAYER_CORRUPT', `${path} is missing`)
        const file = files.open(path)
        opened.push(file)
        return file
      }
      const data = openFile('data')
      checkSize(data, identityPosition(identity.sizeBytes) + IDENTITY_BYTES)
      checkIdentity(data, identityPosition(identity.sizeBytes), 'data', identity)
      const mapFile = LayerMapFile.open(openFile('map'), identity)
      const pending = LayerLog.open(openFile('log'), identity, components.bootId, limits.logAreaRecords)
      const map = new LayerMap(Math.ceil(identity.sizeBytes / SECTOR_BYTES))
      mapFile.load(map)
      const reserve = new DiskReserve(folder, files, components.quotaRoom)
      const layer = new Layer(folder, data, map, mapFile, pending, components.log, limits, reserve)
      await layer.#recover()
      return layer
    } catch (error) {
      for (const file of opened) file.close()
      openFolders.delete(place)
      throw error
    }
  }

  /** Why the layer takes no more writes, once an fdatasync failed. */
  get failure(): RowanError | undefined {
    return this.#failure
  }

  get dataPath(): string {
    return this.#data.path
  }

  /** What its data takes on the host's disk. */
  get allocatedBytes(): number {
    return this.#data.allocatedBytes
  }

  /** Whether nothing was ever written to it. */
  get isEmpty(): boolean {
    return this.map.allAre(SECTOR_ABSENT, 0, this.map.sectors)
  }

  /** It takes no more writes, as after an error of fdatasync: what it stands on may not be what is on the disk. */
  fail(error: unknown): void {
    if (this.#failure === undefined) this.#fail(error)
  }

  /** Whether a request may change the map now; if not, `makeRoom` first. */
  get hasRoom(): boolean {
    return (
      this.#pending.records + MAX_RECORDS_PER_REQUEST <= this.#limits.logAreaRecords &&
      this.map.changedPages < this.#limits.maxChangedPages
    )
  }

  /** Flushes until there is room. */
  async makeRoom(): Promise<void> {
    while (!this.hasRoom) await this.flush()
  }

  /** Fills part of `target` from the data file; meaningful only for sectors whose state is data. */
  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void {
    this.#data.readSync(target, targetOffset, length, position)
  }

  /**
   * Takes whole sectors. `position` is a multiple of 512; `data` ends with a sector, or with the disk. Acknowledged, in
   * the sense of promise 1, when it returns. DISK_FULL, STORE_IO: each sector is old or new; LAYER_FAILED, DISK_CLOSED.
   */
  writeSync(position: number, data: Uint8Array): void {
    this.#checkWritable()
    const [start, end] = [position / SECTOR_BYTES, Math.ceil((position + data.length) / SECTOR_BYTES)]
    if (!this.map.allAre(SECTOR_DATA, start, end)) this.#reserve.take(data.length)
    this.#dataUnsynced = true
    this.#data.writeSync(data, 0, data.length, position)
    this.#setState(start, end, SECTOR_DATA)
  }

  /** The sectors read as zeros from now on. Errors as `writeSync`. */
  zeroSync(start: number, end: number): void {
    this.#checkWritable()
    this.#setState(start, end, SECTOR_ZERO)
  }

  /** All that was acknowledged before the call is durable when it is done. LAYER_FAILED, DISK_FULL, DISK_CLOSED. */
  flush(): Promise<void> {
    if (this.#running === undefined) return this.#startFlush()
    // Whoever asked for the running flush is told how it ends; this one fails by itself if the layer has failed.
    // Another may have started between the end of that one and here: it froze late enough for all who wait.
    const next = () => {
      this.#queued = undefined
      return this.#running ?? this.#startFlush()
    }
    this.#queued ??= this.#running.then(next, next)
    return this.#queued
  }

  /** Flushes and closes the files. They are closed also when the flush fails, whose error is thrown then. */
  close(): Promise<void> {
    this.#closing ??= this.#flushAndClose()
    return this.#closing
  }

  async #flushAndClose(): Promise<void> {
    try {
      if (this.#failure === undefined) await this.flush()
    } finally {
      while (this.#running !== undefined) await Promise.allSettled([this.#running])
      this.#closed = true
      this.#data.close()
      this.#mapFile.close()
      this.#pending.close()
      openFolders.delete(resolve(this.#folder))
    }
  }

  #checkWritable(): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#closing !== undefined) throw new RowanError('DISK_CLOSED', `the layer ${this.#folder} is closed`)
  }

  /** The log's record comes before the change in memory: if it cannot be written, nothing has happened. */
  #setState(start: number, end: number, state: SectorState): void {
    if (this.map.allAre(state, start, end)) return
    this.#pending.append(start, end - start, state)
    this.map.set(start, end, state)
    if (this.#running === undefined && this.#atSoftMark() && !this.#softFlushFailed) this.#flushByItself()
  }

  #atSoftMark(): boolean {
    return (
      this.#pending.records >= this.#limits.logAreaRecords * SOFT_MARK ||
      this.map.changedPages >= this.#limits.maxChangedPages * SOFT_MARK
    )
  }

  #flushByItself(): void {
    this.flush().catch((error: unknown) => {
      this.#softFlushFailed = true
      const { code, message } = asRowanError(error)
      this.#log.warn(`the layer ${basename(this.#folder)} could not be flushed`, {
        code,
        message,
        folder: this.#folder
      })
    })
  }

  async #recover(): Promise<void> {
    const condition = this.#pending.condition
    if (condition === 'same-boot') {
      this.#pending.replay(record => this.#applyRecord(record))
      return
    }
    if (condition === 'failed') {
      // What the map file says in the cache may be missing on the disk, where nothing would write it again.
      this.#mapFile.markAllChanged(this.map)
      try {
        await this.#makeDurable()
      } catch (error) {
        throw layerFailed(this.#folder, error)
      }
    }
    this.#pending.discard()
  }

  #applyRecord({ start, count, state }: LogRecord): void {
    const known = state === SECTOR_DATA || state === SECTOR_ZERO
    if (!known || count === 0 || start + count > this.map.sectors) {
      const says = `state ${state} for ${count} sectors from ${start}`
      throw new RowanError('LAYER_CORRUPT', `${join(this.#folder, 'log')}: a record says ${says}`)
    }
    this.map.set(start, start + count, state)
  }

  #startFlush(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#closed) return Promise.reject(new RowanError('DISK_CLOSED', `the layer ${this.#folder} is closed`))
    const running = this.#flushOnce().finally(() => {
      this.#running = undefined
    })
    this.#running = running
    return running
  }

  async #flushOnce(): Promise<void> {
    const clean = !this.#dataUnsynced && !this.#mapUnsynced && this.map.changedPages === 0
    if (clean && this.#pending.records === 0) return
    this.#pending.beginFlush()
    await this.#makeDurable()
    this.#pending.endFlush()
    this.#softFlushFailed = false
  }

  /** Promise 2. Everything up to the first `await` is the freeze. */
  async #makeDurable(): Promise<void> {
    const syncData = this.#dataUnsynced
    const pages = this.map.freeze()
    this.#dataUnsynced = false
    try {
      await allDone([syncData ? this.#sync(this.#data) : undefined, this.#announce(pages)])
      if (pages.length > 0) {
        this.#mapUnsynced = true
        await this.#mapFile.write(pages)
        await this.#sync(this.#mapFile)
        this.#mapUnsynced = false
      }
      this.map.thaw()
    } catch (error) {
      this.#dataUnsynced = true
      this.map.thaw(pages)
      if (this.#failure === undefined && asRowanError(error).code !== 'DISK_FULL') this.#fail(error)
      throw this.#failure ?? error
    }
  }

  /** Before records of pages are written, it must be durable that there are such pages (layer-map-file.ts). */
  async #announce(pages: FrozenPage[]): Promise<void> {
    if (await this.#mapFile.writePresence(pages)) this.#mapUnsynced = true
    if (!this.#mapUnsynced) return
    await this.#sync(this.#mapFile)
    this.#mapUnsynced = false
  }

  /** Promise 3: any error here, a full disk too, means that the kernel may have dropped data. */
  async #sync(file: { sync(): Promise<void> }): Promise<void> {
    try {
      await file.sync()
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  #fail(error: unknown): void {
    this.#failure = layerFailed(this.#folder, error)
    this.#log.warn(this.#failure.message, { code: this.#failure.code, folder: this.#folder })
    try {
      this.#pending.markFailed()
    } catch (markError) {
      const { code, message } = asRowanError(markError)
      this.#log.warn('a failed layer could not be marked as failed', { code, message, folder: this.#folder })
    }
  }
}

/** Waits for all, so that nothing goes on behind an error; then throws the first. */
async function allDone(work: (Promise<void> | undefined)[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason
}

function layerFailed(folder: string, error: unknown): RowanError {
  const { message } = asRowanError(error)
  return new RowanError('LAYER_FAILED', `the layer ${folder} takes no more writes: ${message}`, { cause: error })
}

/** Where a data file has its identity: behind the last byte of the disk. */
export function identityPosition(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 4096) * 4096
}
