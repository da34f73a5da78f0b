/**
 * Work that runs one at a time, and once for all who asked for it while it ran.
 *
 * A flush or a sync that is under way may have missed what was written since it began. So whoever asks meanwhile waits
 * for its end, and then for one more run. Syncs of one file must not overlap for another reason: Linux tells an error of
 * writing back to one of them, and to the other that all is well.
 *
 * Work that `startsLater` begins when the requests at hand have been taken, so that all of them share it.
 */
export class SharedRun {
  readonly #work: () => Promise<void>
  #running: Promise<void> | undefined
  #queued: Promise<void> | undefined
  readonly #startsLater: boolean
  /** The running one has begun its work. */
  #hasBegun = false

  /** @param work - what is in it up to its first await happens at once where nothing runs, unless it `startsLater` */
  constructor(work: () => Promise<void>, { startsLater = false } = {}) {
    this.#work = work
    this.#startsLater = startsLater
  }

  /** Done when a run is that began after this call. */
  run(): Promise<void> {
    if (this.#running === undefined) return this.#start()
    if (!this.#hasBegun) return this.#running
    // Whoever asked for the running one is told how it ends. Another may have started between its end and here: it
    // began late enough for all who wait.
    const next = () => {
      this.#queued = undefined
      return this.#running ?? this.#start()
    }
    this.#queued ??= this.#running.then(next, next)
    return this.#queued
  }

  /** Nothing runs, nor waits to. */
  get isIdle(): boolean {
    return this.#running === undefined && this.#queued === undefined
  }

  /** Done when nothing runs, nor waits to. */
  async idle(): Promise<void> {
    while (!this.isIdle) {
      await Promise.allSettled([this.#running, this.#queued])
    }
  }

  #start(): Promise<void> {
    this.#hasBegun = false
    const work = this.#startsLater ? Promise.resolve().then(() => this.#begin()) : this.#begin()
    const running = work.finally(() => {
      this.#running = undefined
    })
    this.#running = running
    return running
  }

  #begin(): Promise<void> {
    this.#hasBegun = true
    return this.#work()
  }
}
