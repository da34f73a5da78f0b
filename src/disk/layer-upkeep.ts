/**
 * When the layers of a machine are compacted (layer-compaction.ts): in the background.
 *
 * It begins when it is woken (after opening, and after each command) and paces itself by upkeep-pace.ts. An error ends it
 * until it is woken again; what was done by then is not lost.
 */
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { disksOf, MAX_LAYERS } from './chain.ts'
import type { Hold } from './disk-changes.ts'
import type { MachineLayers } from './machine-layers.ts'
import { beginPace, nextWait, type PaceState } from './upkeep-pace.ts'

/** From so many layers on, it does not wait for a busy guest for ever. */
const URGENT_LAYERS = MAX_LAYERS * 0.75

export interface LayerUpkeepComponents {
  layers: MachineLayers
  /** How changes of the disks are held back. */
  hold: Hold
  /** Requests that the disks have had. */
  requests: () => number
  clock: Pick<Clock, 'monotonicMs' | 'after'>
  log: Log
}

export class LayerUpkeep {
  readonly #components: LayerUpkeepComponents
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #isWoken = false
  #pace: PaceState

  constructor(components: LayerUpkeepComponents) {
    this.#components = components
    this.#pace = beginPace(components.clock.monotonicMs(), components.requests())
  }

  /** There may be something to do. */
  wake(): void {
    this.#isWoken = true
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      // Somebody may have come between its last look and here.
      if (this.#isWoken && !this.#stopping.signal.aborted) this.wake()
    })
  }

  /** Done when all that was to be done is. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  /** Stops between two pieces. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { layers, hold, log, clock } = this.#components
    const { signal } = this.#stopping
    while (this.#isWoken && !signal.aborted) {
      this.#isWoken = false
      let beganMs = clock.monotonicMs()
      const breathe = async () => {
        await this.#rest(Math.max(1, clock.monotonicMs() - beganMs))
        beganMs = clock.monotonicMs()
      }
      try {
        if (!layers.compaction.isDue) continue
        await this.#rest(0)
        await layers.compaction.run({ signal, breathe }, hold)
      } catch (error) {
        const { code, message } = asRowanError(error)
        log.warn('layers could not be merged, which is tried again later', { code, message, folder: layers.folder })
      }
    }
  }

  /** Waits until the next piece may be done. */
  async #rest(workedMs: number): Promise<void> {
    const { layers, requests, clock } = this.#components
    const urgent = disksOf(layers.chain).some(([, disk]) => disk.layers.length >= URGENT_LAYERS)
    for (let worked = workedMs; !this.#stopping.signal.aborted; worked = 0) {
      const look = { nowMs: clock.monotonicMs(), requests: requests(), workedMs: worked, urgent }
      const { state, waitMs } = nextWait(this.#pace, look)
      this.#pace = state
      if (waitMs === 0) return
      await this.#sleep(waitMs)
    }
  }

  #sleep(delayMs: number): Promise<void> {
    const { signal } = this.#stopping
    return new Promise(resolve => {
      if (signal.aborted) return resolve()
      const end = () => {
        timer.cancel()
        signal.removeEventListener('abort', end)
        resolve()
      }
      const timer = this.#components.clock.after(delayMs, end)
      signal.addEventListener('abort', end)
    })
  }
}
