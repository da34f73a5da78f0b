/**
 * Gives the space of trimmed sectors back to the host, a batch at a time, behind the guest's requests.
 *
 * A trim is done when the map says zero; the space is a matter of the background. While a batch is punched, its sectors
 * are held (range-queue.ts), and only what is still zero in the map of the very layer is punched: a guest that writes
 * there again either comes before, and is left alone, or waits for some milliseconds.
 *
 * After power loss a trim that was not flushed may show as zeros or as what was there before: both are allowed for it.
 *
 * **A snapshot** waits for the batch under way and no longer: it promises a constant time, and thousands of ranges may wait.
 * Theirs is then the space of a layer that is frozen, and is left to frozen-holes.ts.
 *
 * Bounded: what is beyond MAX_WAITING keeps its space, as all does where `fallocate` is missing (it is said once) and what a
 * daemon that dies had still to do.
 */
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { Layer } from './layer.ts'
import { type LayerMap, SECTOR_DATA } from './layer-map.ts'
import type { PunchHoles } from './punch-tool.ts'
import type { RangeQueue } from './range-queue.ts'
import { MAX_HOLES, wholeBlocks, zeroBlocks } from './zero-blocks.ts'

/** Ranges that wait; a guest's fstrim of a disk in use makes some hundreds. */
export const MAX_WAITING = 8192
/** Runs of sectors that are looked at for data; each may be a read of the map. A batch for nothing costs less than more of them. */
const MAX_LOOKS = 512

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
  /** Takes what is zero of a layer that takes no more writes. */
  leave: (layer: Layer, start: number, end: number) => void
  log: Log
}

export class HolePuncher {
  readonly #components: HolePuncherComponents
  #waiting: Waiting[] = []
  #running: Promise<void> | undefined
  #isMissing = false
  #resumed: PromiseWithResolvers<void> | undefined

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
   * Until what it returns is called, no batch begins: whoever waits for a moment without changes would not see one for long while
   * a guest trims and trims.
   */
  pause(): () => void {
    const resumed = Promise.withResolvers<void>()
    this.#resumed = resumed
    return () => {
      this.#resumed = undefined
      resumed.resolve()
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
      if (this.#resumed !== undefined) {
        await this.#resumed.promise
        continue
      }
      const batch = this.#waiting.splice(0, MAX_HOLES)
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
    const { changes, top, leave, punch } = this.#components
    const layer = top()
    for (const each of batch) if (each.layer !== layer) leave(each.layer, each.start, each.end)
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
      if (top() !== layer) {
        for (const { start, end } of ranges) leave(layer, start, end)
        return
      }
      const { found, rest } = zeroBlocks(layer.map, ranges)
      this.#waiting.unshift(...rest.map(range => ({ layer, ...range })))
      if (found.length > 0) await punch(layer.dataPath, found)
    } finally {
      release.resolve()
      await Promise.all(held.map(({ over }) => over))
    }
  }
}
