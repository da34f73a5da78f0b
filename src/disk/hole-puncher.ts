/**
 * Gives the space of trimmed sectors back to the host, a batch at a time, behind the guest's requests.
 *
 * A trim is done when the map says zero; the space is a matter of the background. While a batch is punched, its sectors
 * are held (range-queue.ts), and only what is still zero in the map of the very layer is punched: a guest that writes
 * there again either comes before, and is left alone, or waits for some milliseconds.
 *
 * After power loss a trim that was not flushed may show as zeros or as what was there before: both are allowed for it.
 *
 * Bounded: what is beyond MAX_WAITING keeps its space, as all does where `fallocate` is missing (it is said once) and what a
 * daemon that dies had still to do.
 */
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { Layer } from './layer.ts'
import { type LayerMap, SECTOR_BYTES, SECTOR_DATA, SECTOR_ZERO } from './layer-map.ts'
import type { FileRange, PunchHoles } from './punch-tool.ts'
import type { RangeQueue } from './range-queue.ts'

/** Ranges that wait; a guest's fstrim of a disk in use makes some hundreds. */
const MAX_WAITING = 8192
/** Punched by one process, about a millisecond each, during which their sectors are held. */
const MAX_BATCH = 64
/** Runs of sectors that are looked at for data; each may be a read of the map. A batch for nothing costs less than more of them. */
const MAX_LOOKS = 512
/** A file system gives back whole blocks of its own, mostly of this size. */
const SECTORS_PER_BLOCK = 8

interface Waiting {
  layer: Layer
  start: number
  end: number
}

export interface HolePuncherComponents {
  changes: RangeQueue
  punch: PunchHoles
  /** The layer that takes the writes now. */
  top: () => Layer
  log: Log
}

export class HolePuncher {
  readonly #components: HolePuncherComponents
  #waiting: Waiting[] = []
  #running: Promise<void> | undefined
  #isMissing = false
  /** How many of those that wait may be punched now, from the first on. */
  #allowed = Number.POSITIVE_INFINITY
  #resumed = Promise.withResolvers<void>()

  constructor(components: HolePuncherComponents) {
    this.#components = components
  }

  /** To be called before the sectors become zero: whether there may be space to give back. */
  static isWorthIt(map: Pick<LayerMap, 'stateAt' | 'runEnd'>, start: number, end: number): boolean {
    let looks = 0
    for (let at = start; at < end; at = map.runEnd(at, end)) {
      if (map.stateAt(at) === SECTOR_DATA || ++looks > MAX_LOOKS) return true
    }
    return false
  }

  /** The sectors have become zero, and their space is not needed. */
  add(layer: Layer, start: number, end: number): void {
    const last = this.#waiting.at(-1)
    if (last !== undefined && last.layer === layer && last.end === start) last.end = end
    else if (!this.#isMissing && this.#waiting.length < MAX_WAITING) this.#waiting.push({ layer, start, end })
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /**
   * Until what it returns is called, only what waits now is punched: whoever waits for a moment without changes would never see one
   * while a guest trims and trims.
   */
  pause(): () => void {
    this.#allowed = this.#waiting.length
    this.#resumed = Promise.withResolvers()
    return () => {
      this.#allowed = Number.POSITIVE_INFINITY
      this.#resumed.resolve()
    }
  }

  /** Done when all space was given back that is to be. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  async #run(): Promise<void> {
    // Trims come in rows; one a turn would be one process each.
    await new Promise(resolve => setImmediate(resolve))
    while (this.#waiting.length > 0 && !this.#isMissing) {
      if (this.#allowed === 0) {
        await this.#resumed.promise
        continue
      }
      const batch = this.#waiting.splice(0, Math.min(MAX_BATCH, this.#allowed))
      this.#allowed -= batch.length
      try {
        await this.#held(batch)
      } catch (error) {
        this.#isMissing = true
        this.#waiting = []
        const { code, message } = asRowanError(error)
        this.#components.log.warn(message, { code })
      }
    }
  }

  /** Holds the sectors of a batch, then punches what is still zero. */
  async #held(batch: readonly Waiting[]): Promise<void> {
    const { changes, top, punch } = this.#components
    const layer = top()
    const ranges = wholeBlocks(batch.filter(each => each.layer === layer))
    const release = Promise.withResolvers<void>()
    // All are asked for in one go: a change of two of them that came between would wait for the one, and the other for it.
    const held = ranges.map(({ start, end }) => {
      const isHeld = Promise.withResolvers<void>()
      const over = changes.run(start, end, () => {
        isHeld.resolve()
        return release.promise
      })
      return { isHeld: isHeld.promise, over }
    })
    try {
      await Promise.all(held.map(({ isHeld }) => isHeld))
      if (top() !== layer) return
      const found = ranges.flatMap(({ start, end }) => holes(layer.map, start, end))
      for (let first = 0; first < found.length; first += MAX_BATCH) {
        await punch(layer.dataPath, found.slice(first, first + MAX_BATCH))
      }
    } finally {
      release.resolve()
      await Promise.all(held.map(({ over }) => over))
    }
  }
}

/** Ranges that do not touch, each made larger to whole blocks: those at its ends may be zero as a whole by now. */
function wholeBlocks(ranges: readonly { start: number; end: number }[]): { start: number; end: number }[] {
  const whole = ranges.map(({ start, end }) => ({
    start: Math.floor(start / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK,
    end: Math.ceil(end / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK
  }))
  const apart: { start: number; end: number }[] = []
  for (const range of whole.sort((a, b) => a.start - b.start)) {
    const last = apart.at(-1)
    if (last !== undefined && range.start <= last.end) last.end = Math.max(last.end, range.end)
    else apart.push({ ...range })
  }
  return apart
}

/** What is zero of whole blocks, in whole blocks. */
function holes(map: LayerMap, start: number, end: number): FileRange[] {
  const found: FileRange[] = []
  const stop = Math.min(end, map.sectors)
  for (let at = start; at < stop; ) {
    const runEnd = map.runEnd(at, stop)
    if (map.stateAt(at) === SECTOR_ZERO) {
      const first = Math.ceil(at / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK
      const last = runEnd === map.sectors ? runEnd : Math.floor(runEnd / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK
      if (last > first) found.push({ startBytes: first * SECTOR_BYTES, lengthBytes: (last - first) * SECTOR_BYTES })
    }
    at = runEnd
  }
  return found
}
