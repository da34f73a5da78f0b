/**
 * One operation at a time for each name; operations on different names run side by side.
 */
export class Turns {
  readonly #last = new Map<string, Promise<void>>()

  /** Runs `work` once everything that was asked of this name before is over, however that ended. */
  run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(name) ?? Promise.resolve()
    const result = before.then(work)
    const over = result.then(nothing, nothing)
    this.#last.set(name, over)
    void over.then(() => {
      if (this.#last.get(name) === over) this.#last.delete(name)
    })
    return result
  }

  /** Waits until nothing is under way. */
  async idle(): Promise<void> {
    while (this.#last.size > 0) await Promise.all(this.#last.values())
  }
}

/** The outcome is the caller's of `run`; here only the end counts. */
function nothing(): void {}
