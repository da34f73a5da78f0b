/**
 * The disk of a machine: an image that nobody may change, under layers of which the top one takes what the guest writes.
 *
 * A read asks the top, the frozen layers and the image (disk-reads.ts); a write, a trim or zeros go to the top
 * (disk-changes.ts). `trim` and `writeZeroes` are the same here.
 *
 * A snapshot holds back changes for the moment of the switch (machine-layers.ts); reads go on.
 *
 * Owns: the machine's layers. Does not own the image, the pool or the source.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Clock, Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { BlockSource } from '../store/block-source.ts'
import { ZERO } from '../store/local-image.ts'
import { behindWrites } from './behind-writes.ts'
import type { BlockDevice, Extent, FlushOptions, WriteOptions, ZeroOptions } from './block-device.ts'
import type { DiskName, Snapshot, SnapshotRequest } from './chain.ts'
import { DiskChanges, type Hold } from './disk-changes.ts'
import { diskExtents } from './disk-extents.ts'
import { DiskReads } from './disk-reads.ts'
import { EmptyImage } from './empty-image.ts'
import type { TouchSink } from './first-touches.ts'
import type { BaseImage, SlotReader } from './image-reader.ts'
import type { Layer, LayerLimits } from './layer.ts'
import { type LayerFiles, systemFiles } from './layer-files.ts'
import { endSector, SECTOR_ABSENT, SECTOR_BYTES, SECTOR_ZERO, sectorOf } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import { LayerUpkeep } from './layer-upkeep.ts'
import { LayersFolder } from './layers-folder.ts'
import { MachineLayers } from './machine-layers.ts'
import { type PunchHoles, punchHoles } from './punch-tool.ts'
import { ReadAhead } from './read-ahead.ts'
import { StackStates } from './stack-states.ts'
import { StillFlush } from './still-flush.ts'
import { type DiskTraffic, SyncPlace } from './sync-place.ts'

export interface RowanDiskComponents {
  image: BaseImage
  pool: SlotReader
  source: BlockSource
  /** Hears of the first touch of each block of the image. */
  touches?: TouchSink
  /** With `after`, layers are merged in the background, and what a still guest wrote is flushed. */
  clock: Pick<Clock, 'monotonicMs'> & Partial<Pick<Clock, 'after'>>
  log: Log
  /** /proc/sys/kernel/random/boot_id */
  bootId: string
  files?: LayerFiles
  /** How space is given back to the host; `files` of a test's own have no space. */
  punch?: PunchHoles
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
  /** See MachineLayersSettings. */
  dataBytes?: number
  /** See MachineLayersSettings. */
  quotaBytes?: number
  limits?: LayerLimits
  maxUnsavedLayers?: number
}

/** Since the disk was opened. */
export interface DiskStats {
  fetchedBlocks: number
  waitedMs: number
  longestWaitMs: number
  waitedReads: number
  writtenBytes: number
}

/** What one call for extents looks at where maps have to be read: 256 pages, a few ms if none is in memory. */
const MAX_READ_EXTENT_BYTES = 2 * 1024 ** 3

export class RowanDisk implements BlockDevice {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly #name: DiskName
  readonly #image: BaseImage
  readonly #reads: DiskReads
  readonly #ahead: ReadAhead
  /** The machine's other disk, which began with zeros. It is closed with this one. */
  readonly data: RowanDisk | undefined
  /** Undefined for a read-only machine that was never written to. */
  readonly layers: MachineLayers | undefined
  readonly #stack: LayerStack | undefined
  readonly #states: StackStates | undefined
  /** Undefined where there are no layers to change. */
  readonly #changes: DiskChanges | undefined
  readonly #upkeep: LayerUpkeep | undefined
  readonly #stillFlush: StillFlush | undefined
  readonly #traffic: DiskTraffic
  #writtenBytes = 0
  #closing: Promise<void> | undefined

  private constructor(
    components: RowanDiskComponents,
    readOnly: boolean,
    layers: MachineLayers | undefined,
    name: DiskName,
    traffic: DiskTraffic
  ) {
    const { image, source } = components
    this.sizeBytes = image.root.sizeBytes
    this.readOnly = readOnly
    this.#name = name
    this.#traffic = traffic
    this.#image = image
    this.layers = layers
    this.#stack = layers?.stack(name)
    this.#states = this.#stack === undefined ? undefined : new StackStates(this.#stack)
    this.#reads = new DiskReads({ ...components, stack: this.#stack, checkOpen: () => this.#checkOpen() })
    this.#ahead = new ReadAhead({ image, source, map: this.#states })
    const { clock, log } = components
    const stack = this.#stack
    if (stack !== undefined) {
      const read = (offset: number, target: Uint8Array) => this.#reads.readHere(offset, target)
      const { compaction } = layers!
      const leaveHoles = (layer: Layer, start: number, end: number) =>
        compaction.leaveHoles(name, layer.name, start, end)
      this.#changes = new DiskChanges({
        sizeBytes: this.sizeBytes,
        stack,
        read,
        punch: punchOf(components),
        leaveHoles,
        log
      })
    }
    const { monotonicMs, after } = clock
    const timing = after === undefined ? undefined : { monotonicMs: monotonicMs.bind(clock), after: after.bind(clock) }
    const requests = () => traffic.requests
    if (stack !== undefined && timing !== undefined) {
      this.#stillFlush = new StillFlush({ top: () => stack.top, requests, clock: timing, log })
    }
    if (name === 'data') return
    const dataBytes = layers?.chain.disks.data?.sizeBytes
    if (dataBytes !== undefined) {
      const { touches: _, ...others } = components
      this.data = new RowanDisk({ ...others, image: new EmptyImage(dataBytes) }, readOnly, layers, 'data', traffic)
    }
    if (layers === undefined || timing === undefined) return
    const hold: Hold = work => this.#holdAll(work)
    const upkeep = new LayerUpkeep({ layers, hold, requests, clock: timing, log })
    this.#upkeep = upkeep
    layers.compaction.onDue = () => upkeep.wake()
    upkeep.wake()
  }

  /**
   * Opens the disk of a machine without touching the network. A read-only machine needs no layer; one that has layers
   * shows them. Errors as `MachineLayers.open`.
   */
  static async open(components: RowanDiskComponents, settings: RowanDiskSettings): Promise<RowanDisk> {
    const { image, clock, files = systemFiles } = components
    const traffic: DiskTraffic = { requests: 0 }
    const syncPlace = new SyncPlace(() => clock.monotonicMs(), traffic)
    const { folder, readOnly, ...rest } = settings
    let layers: MachineLayers | undefined
    if (!readOnly || LayersFolder.exist(files, folder)) {
      const base = { image: image.id, sizeBytes: image.root.sizeBytes }
      const known = { ...components, syncPlace, punch: punchOf(components) }
      layers = await MachineLayers.open(known, { folder, ...rest, ...base })
    }
    return new RowanDisk(components, readOnly, layers, 'system', traffic)
  }

  get stats(): DiskStats {
    const { waits, fetchedBlocks } = this.#reads
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
    this.#traffic.requests++
    if (target.length === 0) return
    return this.#reads.read(offset, target)
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): void | Promise<void> {
    const changes = this.#checkChange(offset, data.length)
    if (data.length === 0) return
    this.#writtenBytes += data.length
    const done = changes.write(offset, data)
    return options?.fua === true ? this.#flushAfter(done, offset, data.length, data, options) : done
  }

  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void | Promise<void> {
    return this.writeZeroes(offset, lengthBytes, options)
  }

  /** Always fast: only the map changes, and the partial sectors at the ends, as a write of the range would. */
  writeZeroes(offset: number, lengthBytes: number, options?: ZeroOptions): void | Promise<void> {
    const changes = this.#checkChange(offset, lengthBytes)
    if (lengthBytes === 0) return
    const done = changes.zero(offset, offset + lengthBytes, options?.noHole !== true)
    return options?.fua === true ? this.#flushAfter(done, offset, lengthBytes) : done
  }

  extents(offset: number, lengthBytes: number, maxExtents: number): Extent[] {
    this.#check(offset, lengthBytes)
    const stack = this.#stack
    const isInMemory = stack === undefined || (stack.frozen === undefined && stack.top.map.isWhole)
    const length = isInMemory ? lengthBytes : Math.min(lengthBytes, MAX_READ_EXTENT_BYTES)
    return diskExtents(this.#states, this.#image, offset, length, maxExtents)
  }

  /** Answers for most reads, which lie in one block and in one run of sectors. */
  mayBeZero(offset: number, lengthBytes: number): boolean {
    const block = Math.floor(offset / BLOCK_SIZE_BYTES)
    if (offset + lengthBytes > (block + 1) * BLOCK_SIZE_BYTES) return true
    if (this.#states !== undefined) {
      const state = this.#states.commonState(sectorOf(offset), endSector(offset + lengthBytes))
      if (state === undefined) return true
      if (state !== SECTOR_ABSENT) return state === SECTOR_ZERO
    }
    return this.#image.peek(block) === ZERO
  }

  cache(offset: number, lengthBytes: number, options?: { signal?: AbortSignal }): Promise<void> | void {
    this.#check(offset, lengthBytes)
    if (lengthBytes > 0) return this.#ahead.fetch(offset, lengthBytes, options?.signal)
  }

  /** For a guest that has left: brings here what its next start may read (behind-writes.ts). Rejects as `cache`. */
  async prepareNextStart(): Promise<void> {
    if (this.#states === undefined) return
    const turn = async () => {
      await new Promise(resolve => setImmediate(resolve))
      this.#checkOpen()
    }
    const ranges = await behindWrites(this.#states, this.sizeBytes, turn)
    await Promise.all(ranges.map(({ offset, lengthBytes }) => this.#ahead.fetch(offset, lengthBytes)))
  }

  settle(): void {
    this.#stack?.top.settle()
  }

  flush(options?: FlushOptions): void | Promise<void> {
    this.#checkOpen()
    const top = this.#stack?.top
    if (options?.alone === true && top?.flushHere() === true) return
    return top?.flush()
  }

  /**
   * Keeps what the machine's disks hold at one moment; a guest may go on writing. It waits for changes that are under way, also for one
   * that waits for the network. Errors as `MachineLayers.snapshot`, READ_ONLY where there are no layers.
   *
   * @param request - `taken`: ISO 8601
   */
  snapshot(request: SnapshotRequest): Promise<Snapshot> {
    return this.#changeChain(layers => layers.snapshot(request, work => this.#holdAll(work)))
  }

  /** Forgets a snapshot. Errors as `MachineLayers.discard`. */
  discard(snapshot: string): Promise<void> {
    return this.#changeChain(layers => layers.discard(snapshot))
  }

  /**
   * Takes no more requests, lets those under way end (a read that waits for the network rejects with DISK_CLOSED),
   * flushes and closes the layers. Rejects when the flush fails; the files are closed all the same.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#reads.stop()
    this.#ahead.stop()
    this.#stillFlush?.stop()
    await this.#changes?.idle()
    // The layers are those of both disks.
    if (this.#name === 'data') return
    await this.data?.close()
    await this.#upkeep?.stop()
    await this.layers?.close()
  }

  /** Runs `work` while no change of the machine's disks is under way and all that are asked for wait. */
  #holdAll<T>(work: () => Promise<T>): Promise<T> {
    const { data } = this
    return this.#changes!.hold(data === undefined ? work : () => data.#changes!.hold(work))
  }

  /** Once a change is done, it is made durable. @param data - what was written, if it is that */
  #flushAfter(
    done: void | Promise<void>,
    offset: number,
    lengthBytes: number,
    data?: Uint8Array,
    options?: FlushOptions
  ): void | Promise<void> {
    const [start, end] = [sectorOf(offset), endSector(offset + lengthBytes)]
    // Others may have written there since.
    if (done !== undefined) return done.then(() => this.#stack!.top.flushRange(start, end, undefined, options))
    const isWhole =
      offset === start * SECTOR_BYTES && offset + lengthBytes === Math.min(end * SECTOR_BYTES, this.sizeBytes)
    return this.#stack!.top.flushRange(start, end, isWhole ? data : undefined, options)
  }

  /** Changes the machine's chain; afterwards there may be something to merge. */
  async #changeChain<T>(change: (layers: MachineLayers) => Promise<T>): Promise<T> {
    this.#checkOpen()
    if (this.layers === undefined) throw new RowanError('READ_ONLY', 'the machine is read-only and has no layers')
    const result = await change(this.layers)
    this.#upkeep?.wake()
    return result
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

  #checkChange(offset: number, length: number): DiskChanges {
    this.#check(offset, length)
    this.#traffic.requests++
    if (this.readOnly || this.#changes === undefined) throw new RowanError('READ_ONLY', 'the disk is read-only')
    this.#stillFlush?.changed()
    return this.#changes
  }
}

function punchOf({ files, punch }: RowanDiskComponents): PunchHoles | undefined {
  return punch ?? (files === undefined ? punchHoles : undefined)
}
