/**
 * Lets go of replicas whose release its publisher has removed.
 *
 * Who promised to keep an image whole asks from time to time for the newest record of its appliance. Where that lists the image
 * no more, the promise ends, the image is announced no more, and it goes into the trash. Not while a local machine has it,
 * nor when the record is one that this peer refuses: what is not proved ends nothing.
 */
import { deadline } from '../deadline.ts'
import type { Clock, Log, Random, Timer } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { Latest } from '../image/release.ts'

const ASKED_AT_ONCE = 2
const ASK_LIMIT_MS = 15_000
const MAX_INTERVAL_MS = 20 * 60_000
const JITTER = 0.1

export interface ReplicaWatchComponents {
  replication: {
    list(): readonly { appliance: string; version: string; image: string }[]
    forget(what: { appliance: string; version: string; image: string }): Promise<void>
  }
  /** Its answers go into the memory. */
  directory: { findLatest(appliance: string, options: { signal: AbortSignal }): Promise<unknown> }
  memory: { get(appliance: string): { latest: Latest } | undefined }
  machines: { images(): ReadonlySet<string> }
  trash: {
    add(
      images: readonly { image: string; appliance: string; version: string }[],
      options: { announced: boolean }
    ): Promise<void>
  }
  clock: Clock
  random: Random
  log: Log
}

export class ReplicaWatch {
  readonly #components: ReplicaWatchComponents
  readonly #intervalMs: number
  readonly #stopped = new AbortController()
  #timer: Timer | undefined
  #running: Promise<void> | undefined

  constructor(components: ReplicaWatchComponents, settings: { runningTtlMs: number }) {
    this.#components = components
    this.#intervalMs = Math.min(settings.runningTtlMs / 3, MAX_INTERVAL_MS)
  }

  start(): void {
    const { clock, random } = this.#components
    if (this.#stopped.signal.aborted) return
    const delayMs = this.#intervalMs * (1 + JITTER * (2 * random.unit() - 1))
    this.#timer = clock.after(delayMs, () => {
      this.look().finally(() => this.start())
    })
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#timer?.cancel()
    await this.#running
  }

  /** Asks for the records of all replicated appliances, and lets go of what they list no more. Never rejects. */
  look(): Promise<void> {
    this.#running ??= this.#look().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #look(): Promise<void> {
    const waiting = [...new Set(this.#components.replication.list().map(({ appliance }) => appliance))]
    const workers = Array.from({ length: ASKED_AT_ONCE }, async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        if (!this.#stopped.signal.aborted) await this.#lookAt(next)
      }
    })
    await Promise.all(workers)
  }

  /** Never rejects. */
  async #lookAt(appliance: string): Promise<void> {
    const { directory, memory, replication, machines, trash, clock, log } = this.#components
    const limit = deadline(clock, ASK_LIMIT_MS, this.#stopped.signal)
    try {
      await directory.findLatest(appliance, { signal: limit.signal })
    } catch (error) {
      log.debug('nobody told the newest record of a replicated appliance', { appliance, error: String(error) })
    } finally {
      limit.clear()
    }
    const latest = memory.get(appliance)?.latest
    if (latest === undefined || this.#stopped.signal.aborted) return
    const listed = new Set(latest.releases.map(({ image }) => image))
    for (const { image, version, ...each } of replication.list()) {
      if (each.appliance !== appliance || listed.has(image) || machines.images().has(image)) continue
      try {
        await trash.add([{ image, appliance, version }], { announced: false })
        await replication.forget({ appliance, version, image })
        log.info('a replicated release was removed by its publisher', { appliance, version, image })
      } catch (error) {
        log.warn('a removed release is still replicated', { appliance, version, error: asRowanError(error) })
      }
    }
  }
}
