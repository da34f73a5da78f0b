/**
 * Flushes what a guest has written once it is still, if that is much.
 *
 * A guest that installs something, or fills a file, leaves a gigabyte in the host's page cache, which the kernel keeps
 * there for half a minute. Its next fsync, or the next checkpoint of its layer's log, would pay for all of it, and every
 * small flush meanwhile for the busy disk: measured, a second with 200 flushes instead of 3,700. So the time is used in
 * which nobody waits. Little is left alone: it is cheap when it is asked for, and a guest that writes a line of its log
 * now and then must neither wake a disk that sleeps nor wear one out.
 *
 * Owns: the timer. At most one runs, and none while nothing was changed.
 */
import type { Clock, Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { Layer } from './layer.ts'

/** So long must all disks of the machine have been without a request. */
export const STILL_MS = 1000
/** Less is left to whoever asks for a flush: a tenth of a second of a slow disk. */
export const MUCH_BYTES = 16 * 1024 * 1024

export interface StillFlushComponents {
  /** What takes the writes now. */
  top: () => Pick<Layer, 'unsyncedBytes' | 'flush'>
  /** Requests that the machine's disks have had. */
  requests: () => number
  clock: Pick<Clock, 'after'>
  log: Log
}

export class StillFlush {
  readonly #components: StillFlushComponents
  #timer: { cancel(): void } | undefined
  #isStopped = false

  constructor(components: StillFlushComponents) {
    this.#components = components
  }

  /** To be called with each change; cheap. */
  changed(): void {
    if (this.#timer === undefined && !this.#isStopped) this.#lookLater()
  }

  /** Begins no more. One that runs is the layer's. */
  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  #lookLater(): void {
    const { requests, clock } = this.#components
    const requestsBefore = requests()
    this.#timer = clock.after(STILL_MS, () => {
      this.#timer = undefined
      if (requests() === requestsBefore) void this.#flush()
      else this.#lookLater()
    })
  }

  async #flush(): Promise<void> {
    const { top, log } = this.#components
    const layer = top()
    if (layer.unsyncedBytes < MUCH_BYTES) return
    try {
      await layer.flush()
    } catch (error) {
      // Nobody asked for it, and whoever asks next hears of it.
      const { code, message } = asRowanError(error)
      log.warn('what a still guest wrote could not be flushed', { code, message })
    }
  }
}
