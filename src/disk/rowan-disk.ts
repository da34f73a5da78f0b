/**
 * The disk of a machine: an image that nobody may change, under a layer that takes what the guest writes.
 *
 * A read is cut into runs of sectors that have one state in the layer's map: data is read from the layer, zero is
 * filled in, absent is the image's (image-reader.ts). Where all of it is here, nothing is awaited and, for a range
 * inside one run, nothing is allocated: one `pread` into the caller's buffer.
 *
 * A write goes to the layer, whole sectors; nothing is copied up, and the bytes around it need not be here. Only a
 * request that begins or ends inside a sector (a client that ignores the minimum block size, a disk whose size is no
 * multiple of 512) reads that sector first. If it has to wait for it, or for room in the layer's log, it holds its
 * sectors meanwhile, and later changes of them queue behind it (range-queue.ts).
 *
 * `trim` and `writeZeroes` are the same here: sectors become zero in the map. Nothing is reserved (`noHole`) and no
 * space is given back, because Node has no fallocate.
 *
 * Owns: the layer, and the wants under way. Does not own the image, the pool or the source.
 */
import { dirname, join } from 'node:path'
import type { Clock, Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { BlockSource } from '../store/block-source.ts'
import type { BlockDevice, Extent, ZeroOptions } from './block-device.ts'
import { diskExtents } from './disk-extents.ts'
import type { TouchSink } from './first-touches.ts'
import { type BaseImage, ImageReader, type SlotReader } from './image-reader.ts'
import { Layer, type LayerLimits } from './layer.ts'
import { type LayerFiles, systemFiles } from './layer-files.ts'
import { SECTOR_BYTES, SECTOR_DATA, SECTOR_ZERO, type SectorState } from './layer-map.ts'
import { RangeQueue } from './range-queue.ts'
import { ReadAhead } from './read-ahead.ts'

export interface RowanDiskComponents {
  image: BaseImage
  pool: SlotReader
  source: BlockSource
  /** Hears of the first touch of each block of the image. */
  touches?: TouchSink
  clock: Pick<Clock, 'monotonicMs'>
  log: Log
  /** /proc/sys/kernel/random/boot_id */
  bootId: string
  files?: LayerFiles
}

export interface RowanDiskSettings {
  /** The machine's layers: `machines/NAME/layers`. */
  folder: string
  /** The machine's id. */
  machine: string
  readOnly: boolean
  /**
   * The machine is new: its first layer is made if there is none. Without it a layer that is missing is LAYER_CORRUPT,
   * so that a machine that lost its layer never starts with an empty one.
   */
  create?: boolean
  limits?: LayerLimits
}

/** Since the disk was opened. */
export interface DiskStats {
  fetchedBlocks: number
  waitedMs: number
  longestWaitMs: number
  waitedReads: number
  writtenBytes: number
}

export const FIRST_LAYER = '0001'

export class RowanDisk implements BlockDevice {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly #image: BaseImage
  readonly #base: ImageReader
  readonly #ahead: ReadAhead
  readonly #layer: Layer | undefined
  readonly #changes = new RangeQueue()
  #writtenBytes = 0
  /** For the promises of the next read that has any. */
  #unusedList: Promise<void>[] = []
  #closing: Promise<void> | undefined

  private constructor(components: RowanDiskComponents, readOnly: boolean, layer: Layer | undefined) {
    const { image, source } = components
    this.sizeBytes = image.root.sizeBytes
    this.readOnly = readOnly
    this.#image = image
    this.#base = new ImageReader(components)
    this.#ahead = new ReadAhead({ image, source, map: layer?.map })
    this.#layer = layer
  }

  /**
   * Opens the disk of a machine without touching the network. A read-only machine needs no layer; one that has a layer
   * shows it. Errors as `Layer.open`.
   */
  static async open(components: RowanDiskComponents, settings: RowanDiskSettings): Promise<RowanDisk> {
    const { image, files = systemFiles } = components
    const { machine, limits } = settings
    const { sizeBytes } = image.root
    const folder = join(settings.folder, FIRST_LAYER)
    const identity = { machine, layer: FIRST_LAYER, image: image.id, sizeBytes }
    let layer: Layer | undefined
    if (!settings.readOnly && settings.create === true && !files.exists(folder)) {
      files.makeFolder(settings.folder)
      files.syncFolder(dirname(settings.folder))
      await Layer.create(folder, identity, files, limits)
    }
    if (!settings.readOnly || files.exists(folder)) layer = await Layer.open(components, folder, identity, limits)
    return new RowanDisk(components, settings.readOnly, layer)
  }

  get stats(): DiskStats {
    const { waits, fetchedBlocks } = this.#base
    return {
      fetchedBlocks,
      waitedMs: waits.waitedMs,
      longestWaitMs: waits.longestMs,
      waitedReads: waits.reads,
      writtenBytes: this.#writtenBytes
    }
  }

  read(offset: number, target: Uint8Array): void | Promise<void> {
    this.#check(offset, target.length)
    if (target.length === 0) return
    return this.#read(offset, target)
  }

  write(offset: number, data: Uint8Array, options?: { fua?: boolean }): void | Promise<void> {
    const layer = this.#checkWrite(offset, data.length)
    if (data.length === 0) return
    this.#writtenBytes += data.length
    const end = offset + data.length
    const whole = offset % SECTOR_BYTES === 0 && (end % SECTOR_BYTES === 0 || end === this.sizeBytes)
    if (whole && layer.hasRoom && this.#changes.isFree(sectorOf(offset), endSector(end))) {
      layer.writeSync(offset, data)
    } else {
      const done = whole
        ? this.#change(offset, end, nothing, () => layer.writeSync(offset, data))
        : this.#merge(offset, data)
      if (done !== undefined) return options?.fua === true ? done.then(() => layer.flush()) : done
    }
    if (options?.fua === true) return layer.flush()
  }

  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void | Promise<void> {
    return this.writeZeroes(offset, lengthBytes, options)
  }

  /** Always fast: only the map changes, and the partial sectors at the ends, as a write of the range would. */
  writeZeroes(offset: number, lengthBytes: number, options?: ZeroOptions): void | Promise<void> {
    const layer = this.#checkWrite(offset, lengthBytes)
    if (lengthBytes === 0) return
    const done = this.#zero(offset, offset + lengthBytes)
    if (options?.fua !== true) return done
    return done === undefined ? layer.flush() : done.then(() => layer.flush())
  }

  extents(offset: number, lengthBytes: number, maxExtents: number): Extent[] {
    this.#check(offset, lengthBytes)
    return diskExtents(this.#layer?.map, this.#image, offset, lengthBytes, maxExtents)
  }

  cache(offset: number, lengthBytes: number): Promise<void> | void {
    this.#check(offset, lengthBytes)
    if (lengthBytes > 0) return this.#ahead.fetch(offset, lengthBytes)
  }

  async flush(): Promise<void> {
    this.#checkOpen()
    await this.#layer?.flush()
  }

  /**
   * Takes no more requests, lets those under way end (a read that waits for the network rejects with DISK_CLOSED),
   * flushes and closes the layer. Rejects when the flush fails; the files are closed all the same.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#base.stop()
    this.#ahead.stop()
    await this.#changes.idle()
    await this.#layer?.close()
  }

  #read(offset: number, target: Uint8Array): void | Promise<void> {
    const pending = this.#unusedList
    try {
      this.#readRuns(offset, target, pending)
    } catch (error) {
      if (pending.length === 0) throw error
      pending.push(Promise.reject(error))
    }
    if (pending.length === 0) return
    this.#unusedList = []
    return this.#base.waits.during(allDone(pending))
  }

  #readRuns(offset: number, target: Uint8Array, pending: Promise<void>[]): void {
    const layer = this.#layer
    if (layer === undefined) {
      this.#base.read(offset, target, 0, target.length, pending)
      return
    }
    const end = offset + target.length
    const lastSector = endSector(end)
    for (let at = offset; at < end; ) {
      const sector = sectorOf(at)
      const runEnd = Math.min(end, layer.map.runEnd(sector, lastSector) * SECTOR_BYTES)
      this.#readRun(layer, layer.map.stateAt(sector), at, target, at - offset, runEnd - at, pending)
      at = runEnd
    }
  }

  #readRun(
    layer: Layer,
    state: SectorState,
    offset: number,
    target: Uint8Array,
    targetOffset: number,
    length: number,
    pending: Promise<void>[]
  ): void {
    if (state === SECTOR_DATA) layer.readSync(target, targetOffset, length, offset)
    else if (state === SECTOR_ZERO) target.fill(0, targetOffset, targetOffset + length)
    else this.#base.read(offset, target, targetOffset, length, pending)
  }

  /** A write that begins or ends inside a sector: its sectors as a whole, with what is around it as it was. */
  #merge(offset: number, data: Uint8Array): void | Promise<void> {
    const layer = this.#layer!
    const end = offset + data.length
    const start = sectorOf(offset) * SECTOR_BYTES
    const merged = new Uint8Array(Math.min(endSector(end) * SECTOR_BYTES, this.sizeBytes) - start)
    const readEdges = () => this.#readEdges(offset, end, start, merged)
    return this.#change(offset, end, readEdges, () => {
      merged.set(data, offset - start)
      layer.writeSync(start, merged)
    })
  }

  /** Reads the first and the last sector of a range where only a part of them is in it. */
  #readEdges(offset: number, end: number, start: number, merged: Uint8Array): void | Promise<void> {
    const readSector = (sector: number) => {
      const at = sector * SECTOR_BYTES - start
      return this.#read(sector * SECTOR_BYTES, merged.subarray(at, at + SECTOR_BYTES))
    }
    const edges: number[] = []
    const last = endSector(end) - 1
    const cutsLast = end % SECTOR_BYTES !== 0 && end !== this.sizeBytes
    if (offset % SECTOR_BYTES !== 0) edges.push(sectorOf(offset))
    if (cutsLast && (last !== sectorOf(offset) || offset % SECTOR_BYTES === 0)) edges.push(last)
    return inTurn(edges.map(sector => () => readSector(sector)))
  }

  /** Whole sectors become zero in the map; the partial ones at the ends are written. */
  #zero(offset: number, end: number): void | Promise<void> {
    const layer = this.#layer!
    const firstWhole = endSector(offset)
    const lastWhole = end === this.sizeBytes ? endSector(end) : sectorOf(end)
    if (firstWhole >= lastWhole) return this.#merge(offset, new Uint8Array(end - offset))
    const start = firstWhole * SECTOR_BYTES
    const stop = Math.min(lastWhole * SECTOR_BYTES, end)
    const steps = [() => this.#change(start, stop, nothing, () => layer.zeroSync(firstWhole, lastWhole))]
    if (offset < start) steps.push(() => this.#merge(offset, new Uint8Array(start - offset)))
    if (stop < end) steps.push(() => this.#merge(stop, new Uint8Array(end - stop)))
    return inTurn(steps)
  }

  /**
   * Makes a change once `prepare` is done, the layer has room, and no earlier change of these sectors is under way; at
   * once if nothing has to be waited for.
   */
  #change(offset: number, end: number, prepare: () => void | Promise<void>, commit: () => void): void | Promise<void> {
    const layer = this.#layer!
    const start = sectorOf(offset)
    const stop = endSector(end)
    if (!this.#changes.isFree(start, stop)) {
      return this.#changes.run(start, stop, async () => {
        await prepare()
        while (!layer.hasRoom) await layer.makeRoom()
        commit()
      })
    }
    const preparing = prepare()
    if (preparing === undefined && layer.hasRoom) {
      commit()
      return
    }
    return this.#changes.run(start, stop, async () => {
      await preparing
      while (!layer.hasRoom) await layer.makeRoom()
      commit()
    })
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new RowanError('DISK_CLOSED', 'the disk is closed')
  }

  #check(offset: number, length: number): void {
    this.#checkOpen()
    if (
      !Number.isSafeInteger(offset) ||
      !Number.isSafeInteger(length) ||
      offset < 0 ||
      length < 0 ||
      offset + length > this.sizeBytes
    ) {
      const range = `${length} bytes at ${offset}`
      throw new RowanError('OUT_OF_RANGE', `${range} are not within the disk of ${this.sizeBytes} bytes`)
    }
  }

  #checkWrite(offset: number, length: number): Layer {
    this.#check(offset, length)
    if (this.readOnly || this.#layer === undefined) throw new RowanError('READ_ONLY', 'the disk is read-only')
    return this.#layer
  }
}

function sectorOf(offset: number): number {
  return Math.floor(offset / SECTOR_BYTES)
}

/** The first sector behind a range that ends at `end`. */
function endSector(end: number): number {
  return Math.ceil(end / SECTOR_BYTES)
}

function nothing(): void {}

/** Begins each step; done when all that began are, with the first error. A step that throws at once ends the row. */
function inTurn(steps: (() => void | Promise<void>)[]): void | Promise<void> {
  const pending: Promise<void>[] = []
  try {
    for (const step of steps) {
      const done = step()
      if (done !== undefined) pending.push(done)
    }
  } catch (error) {
    if (pending.length === 0) throw error
    pending.push(Promise.reject(error))
  }
  if (pending.length > 0) return allDone(pending)
}

/** Waits for all, and throws the first error only then: nobody writes into the caller's buffer afterwards. */
async function allDone(work: Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason
}
