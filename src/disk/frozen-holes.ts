/**
 * Gives back the space of what was trimmed in layers that have been frozen since.
 *
 * A snapshot does not wait until the holes of all trims before it were punched (hole-puncher.ts). What is left is done here,
 * in the background, and at the latest when the layers are closed.
 *
 * **Why that is safe.** A layer is frozen only once its map is durable, and no guest writes to it: what its map says to be zero is
 * read from nowhere, now or after a power loss. Only a merge writes there, and its data lies in the file before the map says so. So the holes
 * are punched in turn with merges, never beside one (layer-compaction.ts), and the map is asked anew: what a merge that broke off had
 * copied where the map still says zero is copied again by the next one.
 *
 * Bounded: what is beyond MAX_WAITING keeps its space; so does all of a layer that is not under the top any more.
 */
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { DiskName } from './chain.ts'
import type { FrozenLayer } from './frozen-layer.ts'
import { MAX_WAITING } from './hole-puncher.ts'
import { LayerMap } from './layer-map.ts'
import type { PunchHoles } from './punch-tool.ts'
import { type Sectors, wholeBlocks, zeroBlocks } from './zero-blocks.ts'

/** A page is looked at once, and there are two at most at the ends of a run. */
const MAX_CLEAN_PAGES = 2

/** A layer that is frozen, and its size; undefined where it is not needed any more. */
export type FindFrozen = (disk: DiskName, name: string) => { layer: FrozenLayer; sectors: number } | undefined

interface Left {
  disk: DiskName
  name: string
  ranges: Sectors[]
}

export class FrozenHoles {
  readonly #punch: PunchHoles | undefined
  readonly #log: Log
  readonly #waiting = new Map<string, Left>()
  #ranges = 0

  /** @param punch - without it space stays allocated */
  constructor(punch: PunchHoles | undefined, log: Log) {
    this.#punch = punch
    this.#log = log
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /** These sectors of a layer were trimmed while it took writes, or became zero as it was merged. */
  add(disk: DiskName, name: string, range: Sectors): void {
    if (this.#punch === undefined || this.#ranges >= MAX_WAITING) return
    const known = this.#waiting.get(name)
    const last = known?.ranges.at(-1)
    if (last?.end === range.start) last.end = range.end
    else {
      if (known === undefined) this.#waiting.set(name, { disk, name, ranges: [range] })
      else known.ranges.push(range)
      this.#ranges++
    }
  }

  /**
   * Punches all there is, a batch at a time. No layer may be merged meanwhile.
   *
   * @param breathe - called between batches; once `signal` has fired, nothing more is begun
   */
  async giveBack(find: FindFrozen, breathe: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    for (const [name, left] of this.#waiting) {
      const isNeeded = () => find(left.disk, name) !== undefined
      try {
        await this.#giveBackOf(left, find, async () => {
          await breathe()
          return isNeeded() && signal?.aborted !== true
        })
      } catch (error) {
        // Whoever discarded the layer meanwhile has removed its file.
        if (isNeeded()) {
          const { code, message } = asRowanError(error)
          this.#log.warn(message, { code, layer: name })
        }
      }
      if (signal?.aborted === true) return
      this.#ranges -= left.ranges.length
      this.#waiting.delete(name)
    }
  }

  async #giveBackOf({ disk, name, ranges }: Left, find: FindFrozen, mayGoOn: () => Promise<boolean>): Promise<void> {
    const frozen = find(disk, name)
    if (frozen === undefined) return
    const { mapFile, data } = frozen.layer
    const map = new LayerMap(frozen.sectors, mapFile, MAX_CLEAN_PAGES)
    mapFile.load(map)
    let left = wholeBlocks(ranges)
    while (left.length > 0) {
      const { found, rest } = zeroBlocks(map, left)
      if (found.length > 0) await this.#punch!(data.path, found)
      left = rest
      this.#ranges += rest.length - ranges.length
      ranges.splice(0, ranges.length, ...rest)
      if (!(await mayGoOn())) return
    }
  }
}
