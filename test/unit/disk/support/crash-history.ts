/**
 * Runs a history of guest requests and crashes on a RowanDisk over simulated files, and after each life tries every
 * moment at which it could have ended: the daemon's death, and power losses.
 */
import type { LayerLimits } from '../../../../src/disk/layer.ts'
import {
  decodeIdentity,
  encodeIdentity,
  IDENTITY_BYTES,
  type LayerIdentity
} from '../../../../src/disk/layer-identity.ts'
import { RowanDisk } from '../../../../src/disk/rowan-disk.ts'
import { RowanError } from '../../../../src/errors.ts'
import { GuestModel, type Mark, SECTOR_BYTES } from './guest-model.ts'
import { RecordingFiles } from './recording-files.ts'
import type { DiskEvent, SimulatedDisk } from './simulated-disk.ts'
import { components, TestImage } from './test-image.ts'

/** Two map pages, and one so small that its sectors are often all alike; a last sector of 200 bytes. */
export const DISK_BYTES = (2 * 16_384 + 4) * SECTOR_BYTES + 200
const SECTORS = Math.ceil(DISK_BYTES / SECTOR_BYTES)
/** Where requests go: the ends of the disk and the edges of map pages. */
export const REGIONS = [0, 16_384 - 8, 2 * 16_384 - 8, SECTORS - 16] as const
export const REGION_SECTORS = 16

export type Step =
  | { do: 'write' | 'zero'; region: number; from: number; length: number; fua: boolean }
  | { do: 'flush'; wait: boolean }
  /** Something that waits for the disk goes on. */
  | { do: 'step'; which: number }
  | { do: 'settle' }
  | { do: 'crash'; how: 'death' | 'power-loss' }

export interface HistorySettings {
  limits: LayerLimits
  /** Requests begin and end anywhere, not only between sectors. */
  unaligned: boolean
  /** A number in [0, 1), the same row for the same history. */
  random: () => number
  /** Fails the n-th sync, the n-th write; counted through all lives. */
  failSync?: number
  failWrite?: number
  failWriteCode?: 'DISK_FULL' | 'STORE_IO'
  /** Fails one of so many reads, of a guest's request, of a flush and of an opening; each can be repeated. */
  failReads?: number
  /** The layer's map begins as one of the first format. */
  firstFormatMap?: boolean
}

/** Every other one is told that nobody else waits, and so may be made durable before it returns. */
const isAlone = (change: number) => change % 2 === 0

const READ_ERROR = 'an injected error of a read'

let lives = 0

export class CrashHistory {
  readonly #settings: HistorySettings
  readonly #image = new TestImage(DISK_BYTES)
  #files = new RecordingFiles()
  #disk: RowanDisk | undefined
  #model: GuestModel
  /** How this life began, to try its moments again. */
  #birth: { disk: SimulatedDisk; model: GuestModel; bootId: string } | undefined
  #boots = 0
  #changes = 0
  /** Changes that the disk has made and not settled. */
  #unsettled: number[] = []
  #syncs = 0
  #writes = 0
  /** Off while something that failed is tried again. */
  #readsFail = true
  momentsTried = 0
  /** Requests and openings that an injected error of a read made fail. */
  failedReads = 0

  constructor(settings: HistorySettings) {
    this.#settings = settings
    this.#model = new GuestModel(sector => this.#imageSector(sector))
  }

  async run(steps: Step[]): Promise<void> {
    const made = await this.#open(this.#files, 'boot-0', true)
    await made.close()
    if (this.#settings.firstFormatMap === true) this.#files.record(firstFormatIdentity(this.#files.disk))
    await this.#begin(this.#files.disk)
    for (const step of steps) await this.#take(step)
    await this.#crash('death')
    await this.#crash('power-loss')
  }

  async #take(step: Step): Promise<void> {
    if (step.do === 'crash') return this.#crash(step.how)
    if (step.do === 'step') return this.#files.step(step.which)
    if (step.do === 'settle') return this.#settleOrFail()
    if (step.do === 'flush') return this.#flush(step.wait)
    await this.#change(step)
    await this.#compareNow(REGIONS[step.region]!)
  }

  async #flush(wait: boolean): Promise<void> {
    const files = this.#files
    const flush = this.#changes++
    this.#mark({ kind: 'flush-call', flush })
    const flushed = () => this.#mark({ kind: 'flush-ack', flush }, files)
    try {
      const done = this.#disk!.flush({ alone: isAlone(flush) })
      if (done === undefined) return flushed()
      const ending = done.then(flushed, error => this.#failure(error, files))
      if (wait) await files.finish(ending)
    } catch (error) {
      this.#failure(error, files)
    }
  }

  async #change(step: Extract<Step, { do: 'write' | 'zero' }>): Promise<void> {
    const unit = this.#settings.unaligned ? 1 : SECTOR_BYTES
    const regionStart = REGIONS[step.region]! * SECTOR_BYTES
    const regionEnd = Math.min(regionStart + REGION_SECTORS * SECTOR_BYTES, DISK_BYTES)
    const offset = Math.min(regionStart + Math.floor((step.from * SECTOR_BYTES) / unit) * unit, regionEnd - 1)
    const start = Math.floor(offset / unit) * unit
    const end = Math.min(start + Math.max(unit, Math.floor((step.length * SECTOR_BYTES) / unit) * unit), regionEnd)
    const change = this.#changes++
    const data = step.do === 'zero' ? new Uint8Array(end - start) : contentOf(change, end - start)
    this.#mark({ kind: 'issue', change, ...this.#merged(start, data) })
    const files = this.#files
    try {
      const disk = this.#disk!
      const options = { fua: step.fua, alone: isAlone(change) }
      const done = step.do === 'zero' ? disk.trim(start, end - start, options) : disk.write(start, data, options)
      if (done !== undefined) await files.finish(done)
      else if (!this.#settings.unaligned && !step.fua && this.#choose(3) > 0) {
        this.#unsettled.push(change)
        return
      }
      this.#settle()
      this.#mark({ kind: 'ack', change, durable: step.fua })
    } catch (error) {
      this.#mark({ kind: 'refuse', change }, files)
      this.#failure(error, files)
    }
  }

  /** What the disk answered at once is acknowledged, as a server does it before it sends anything. */
  #settle(): void {
    this.#disk!.settle()
    for (const change of this.#unsettled.splice(0)) this.#mark({ kind: 'ack', change, durable: false })
  }

  #settleOrFail(): void {
    try {
      this.#settle()
    } catch (error) {
      this.#failure(error, this.#files)
    }
  }

  #failure(error: unknown, files: RecordingFiles): void {
    if (!(error instanceof RowanError)) throw error
    if (error.message === READ_ERROR) this.failedReads++
    else if (error.code !== 'LAYER_FAILED' && error.code !== this.#settings.failWriteCode) throw error
    if (error.code !== 'LAYER_FAILED' || files !== this.#files) return
    this.#mark({ kind: 'failed' }, files)
  }

  /** The sectors of a change as they are after it. */
  #merged(start: number, data: Uint8Array): { first: number; contents: Uint8Array[] } {
    const first = Math.floor(start / SECTOR_BYTES)
    const last = Math.ceil((start + data.length) / SECTOR_BYTES)
    const contents: Uint8Array[] = []
    for (let sector = first; sector < last; sector++) {
      const content = this.#model.current(sector).slice()
      const from = Math.max(0, start - sector * SECTOR_BYTES)
      const source = Math.max(0, sector * SECTOR_BYTES - start)
      content.set(data.subarray(source, source + content.length - from), from)
      contents.push(content)
    }
    return { first, contents }
  }

  /** The disk reads as the guest was told, without any crash. */
  async #compareNow(region: number): Promise<void> {
    const { failWrite, failSync } = this.#settings
    if (failWrite !== undefined || failSync !== undefined || this.#unsettled.length > 0) return
    for (const [sector, content] of await this.#again(() => this.#readAll(this.#disk!, region))) {
      if (!this.#model.allowedNow(sector).some(allowed => same(content, allowed)))
        throw new Error(`sector ${sector} is not what was written`)
    }
  }

  async #crash(how: 'death' | 'power-loss'): Promise<void> {
    await this.#tryEveryMoment()
    const { disk, events } = this.#files
    // A flush that began by itself may have failed without the guest's hearing of it.
    if (events.some(event => event.kind === 'sync-end' && event.failed)) this.#model.apply({ kind: 'failed' })
    this.#unsettled = []
    const left = how === 'death' ? disk.clone() : disk.afterPowerLoss(count => this.#choose(count))
    if (how === 'power-loss') this.#boots++
    const before = this.#model
    await this.#begin(left, found => before.afterCrash(how, found))
  }

  async #begin(disk: SimulatedDisk, model?: (found: Map<number, Uint8Array>) => GuestModel): Promise<void> {
    this.#files = new RecordingFiles(disk)
    const bootId = this.#bootId()
    this.#disk = await this.#open(this.#files, bootId)
    if (model !== undefined) this.#model = model(await this.#readAll(this.#disk))
    this.#files.events.length = 0
    this.#birth = { disk: this.#files.disk.clone(), model: this.#model.clone(), bootId }
    this.#files.gated = true
    this.#files.fault = operation => this.#maybeFail(operation)
  }

  /** Does something, and once more where a read failed. */
  async #again<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof RowanError) || error.message !== READ_ERROR) throw error
      this.failedReads++
      this.#readsFail = false
      return await work()
    } finally {
      this.#readsFail = true
    }
  }

  #maybeFail(operation: string): void {
    const { failSync, failWrite, failWriteCode = 'STORE_IO', failReads } = this.#settings
    if (operation === 'read' && failReads !== undefined && this.#readsFail && this.#choose(failReads) === 0) {
      throw new RowanError('STORE_IO', READ_ERROR)
    }
    if (operation === 'sync' && this.#syncs++ === failSync) throw new RowanError('STORE_IO', 'injected')
    if (operation === 'write' && this.#writes++ === failWrite) throw new RowanError(failWriteCode, 'injected')
  }

  /** Ends this life at every event that it had, and looks what is left. */
  async #tryEveryMoment(): Promise<void> {
    const { disk, model, bootId } = this.#birth!
    const replay = disk.clone()
    const told = model.clone()
    // Whoever dies between a sync that fails and the mark that says so leaves nothing by which it could be known.
    let isUnmarked = false
    for (const event of this.#files.events) {
      if (event.kind === 'write' && event.bytes.length > 1) {
        const torn = replay.clone()
        torn.apply({ ...event, bytes: event.bytes.subarray(0, this.#tear(event.file, event.bytes.length)) })
        await this.#examine(torn, told, bootId, 'death', !isUnmarked)
      }
      replay.apply(event)
      if (event.kind === 'sync-end' && event.failed) isUnmarked = true
      else if (event.kind === 'write' && event.file === 'log') isUnmarked = false
      // The layer gives up at the failed sync, a moment before the guest hears of it.
      if (event.kind === 'sync-end' && event.failed) told.apply({ kind: 'failed' })
      if (event.kind === 'mark') told.apply(event.mark as Mark)
      else if (event.kind === 'write') await this.#examine(replay.clone(), told, bootId, 'death', !isUnmarked)
      // A power loss has many outcomes at each moment; one of them.
      await this.#examine(
        replay.afterPowerLoss(count => this.#choose(count)),
        told,
        'boot-after',
        'power-loss'
      )
    }
  }

  async #examine(
    left: SimulatedDisk,
    told: GuestModel,
    bootId: string,
    crash: 'death' | 'power-loss',
    staysFlushed = true
  ): Promise<void> {
    this.momentsTried++
    const before = left.clone()
    const files = new RecordingFiles(left)
    if (this.#settings.failReads !== undefined) files.fault = operation => this.#maybeFail(operation)
    const disk = await this.#again(() => this.#open(files, bootId))
    const found = await this.#again(() => this.#readAll(disk))
    files.fault = () => {}
    this.#compare(found, told, crash)
    if (this.#choose(4) === 0) await this.#crashAgain(before, files, told)
    // What was found once, and flushed, is there for good.
    const looksLater = this.#settings.failSync !== undefined || this.#choose(8) === 0
    if (!looksLater || !staysFlushed) return
    await disk.flush()
    const later = await this.#open(new RecordingFiles(left.afterPowerLoss(count => this.#choose(count))), 'boot-later')
    for (const [sector, content] of await this.#readAll(later)) {
      if (!same(content, found.get(sector)!))
        throw new Error(`sector ${sector} was flushed after ${crash}, and is gone`)
    }
  }

  #compare(found: Map<number, Uint8Array>, told: GuestModel, crash: 'death' | 'power-loss'): void {
    for (const [sector, content] of found) {
      if (told.allowed(sector, crash).some(allowed => same(content, allowed))) continue
      const history = told.sectors.get(sector)
      throw new Error(
        `after ${crash}, sector ${sector} is none of what it may be: ${JSON.stringify({ ...history, contents: history?.contents.map(describe), found: describe(content) })}`
      )
    }
  }

  /** A power loss while the layer was being opened after a crash: what it had done of that does no harm. */
  async #crashAgain(before: SimulatedDisk, { events }: RecordingFiles, told: GuestModel): Promise<void> {
    for (const event of events.slice(0, this.#choose(events.length + 1))) before.apply(event)
    const left = before.afterPowerLoss(count => this.#choose(count))
    const disk = await this.#open(new RecordingFiles(left), 'boot-again')
    this.#compare(await this.#readAll(disk), told, 'power-loss')
  }

  async #readAll(disk: RowanDisk, region?: number): Promise<Map<number, Uint8Array>> {
    const found = new Map<number, Uint8Array>()
    for (const start of region === undefined ? REGIONS : [region]) {
      const offset = start * SECTOR_BYTES
      const target = new Uint8Array(Math.min(REGION_SECTORS * SECTOR_BYTES, DISK_BYTES - offset))
      await disk.read(offset, target)
      for (let at = 0; at < target.length; at += SECTOR_BYTES) {
        found.set(start + at / SECTOR_BYTES, target.subarray(at, at + SECTOR_BYTES))
      }
    }
    return found
  }

  #open(files: RecordingFiles, bootId: string, create = false): Promise<RowanDisk> {
    // Now and then a sync seems slow, so that the log is synced in both places (sync-place.ts).
    let ms = 0
    const clock = { monotonicMs: () => (ms += this.#choose(8) === 0 ? 4 : 0) }
    return RowanDisk.open(
      { ...components(this.#image, bootId), clock, files },
      // Each life in a folder of its own: the disk of the one before was never closed.
      { folder: `/life-${lives++}`, machine: 'm', readOnly: false, create, limits: this.#settings.limits }
    )
  }

  #mark(mark: Mark, files = this.#files): void {
    if (files !== this.#files) return
    this.#model.apply(mark)
    files.mark(mark)
  }

  #bootId(): string {
    return `boot-${this.#boots}`
  }

  /** A signal interrupts a write to the page cache between pages at the worst; the log is torn anywhere all the same. */
  #tear(file: string, length: number): number {
    return file === 'log' ? this.#choose(length) : this.#choose(length / SECTOR_BYTES) * SECTOR_BYTES
  }

  #choose(count: number): number {
    return Math.floor(this.#settings.random() * count)
  }

  #imageSector(sector: number): Uint8Array {
    const length = Math.min(SECTOR_BYTES, DISK_BYTES - sector * SECTOR_BYTES)
    return this.#image.expected(sector * SECTOR_BYTES, new Uint8Array(length))
  }
}

/** Bytes that tell which change wrote them. */
function contentOf(change: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let index = 0; index < length; index++) bytes[index] = index % 2 === 0 ? change & 0xff : 0x80 | (change >> 8)
  return bytes
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

function describe(content: Uint8Array): string {
  return Buffer.from(content.subarray(0, 4)).toString('hex')
}

/** An empty map is of the first format if it says so; it is as long as one that was being taken over. */
function firstFormatIdentity(disk: SimulatedDisk): DiskEvent {
  const found = Buffer.alloc(IDENTITY_BYTES)
  disk.read('map', found, 0)
  const { machine, layer, image, sizeBytes } = decodeIdentity(found) as Record<string, unknown> & LayerIdentity
  const bytes = encodeIdentity('map', { machine, layer, image, sizeBytes }, 1)
  return { kind: 'write', file: 'map', position: 0, bytes }
}
