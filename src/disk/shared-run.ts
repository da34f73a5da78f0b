/**
 * Work that runs one at a time, and once for all who asked for it while it ran.
 *
 * A flush or a sync that is under way may have missed what was written since it began. So whoever asks meanwhile waits
 * for its end, and then for one more run. Syncs of one file must not overlap for another reason: Linux tells an error of
 * writing back to one of them, and to the other that all is well.
 */
export class SharedRun {
  readonly #work: () => Promise<void>
  #running: Promise<void> | undefined
  #queued: Promise<void> | undefined

  /** @param work - what is in it up to its first await happens at once where nothing runs */
  constructor(work: () => Promise<void>) {
    this.#work = work
  }

  /** Done when a run is that began after this call. */
  run(): Promise<void> {
    if (this.#running === undefined) return this.#start()
    // Whoever asked for the running one is told how it ends. Another may have started between its end and here: it
    // began late enough for all who wait.
    const next = () => {
      this.#queued = undefined
      return this.#running ?? this.#start()
    }
    this.#queued ??= this.#running.then(next, next)
    return this.#queued
  }

  /** Done when nothing runs, nor waits to. */
  async idle(): Promise<void> {
    while (this.#running !== undefined || this.#queued !== undefined) {
      await Promise.allSettled([this.#running, this.#queued])
    }
  }

  #start(): Promise<void> {
    const running = this.#work().finally(() => {
      this.#running = undefined
    })
    this.#running = running
    return running
  }
}
