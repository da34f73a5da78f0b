/**
 * Ends clients that hold memory and do nothing with it, but only while others wait for that memory.
 *
 * A client that leaves its replies unread, or stops in the middle of a payload, keeps pooled buffers for as long as it
 * likes: a paused guest does just that, and harms nobody. When another connection has to wait for a buffer, those that
 * made no progress from then on for a whole time-out give theirs back. Who waits for the disk is not at fault. Those who wait
 * look again then, too: the memory that all servers share may have become free without a word.
 */
import type { Clock, Log, Timer } from '../environment.ts'
import type { BufferPool } from './buffer-pool.ts'

export interface Watched {
  /** Changes whenever the client sends something or takes replies. */
  readonly progress: number
  /** It is the client's turn: replies were not taken, or a payload is not complete. */
  readonly holdsBuffers: boolean
  destroy(): void
}

export class StallWatch {
  readonly #clock: Clock
  readonly #log: Log
  readonly #buffers: BufferPool
  readonly #connections: Iterable<Watched>
  readonly #timeoutMs: number
  /** How far each was when the watch began. */
  #seen = new Map<Watched, number>()
  #timer: Timer | undefined

  constructor(
    components: { clock: Clock; log: Log; buffers: BufferPool; connections: Iterable<Watched> },
    settings: { stallTimeoutMs: number }
  ) {
    this.#clock = components.clock
    this.#log = components.log
    this.#buffers = components.buffers
    this.#connections = components.connections
    this.#timeoutMs = settings.stallTimeoutMs
    this.#buffers.onWait = () => this.#begin()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#seen.clear()
  }

  #begin(): void {
    if (this.#timer !== undefined) return
    for (const connection of this.#connections) {
      if (connection.holdsBuffers) this.#seen.set(connection, connection.progress)
    }
    this.#timer = this.#clock.after(this.#timeoutMs, () => this.#end())
  }

  #end(): void {
    const seen = this.#seen
    this.#seen = new Map()
    this.#timer = undefined
    if (this.#buffers.waiting === 0) return
    for (const [connection, progress] of seen) {
      if (!connection.holdsBuffers || connection.progress !== progress) continue
      this.#log.warn('an NBD client that stalls gives way to others', {
        code: 'LIMIT_EXCEEDED',
        stallTimeoutMs: this.#timeoutMs
      })
      connection.destroy()
    }
    // Whoever has to wait on begins the next watch.
    this.#buffers.lookAgain()
  }
}
