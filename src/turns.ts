/**
 * One operation at a time for each name; operations on different names run side by side.
 */
export class Turns {
  readonly #last = new Map<string, Promise<void>>()

  /**
   * Runs `work` once everything that was asked of this name before is over, however that ended.
   *
   * @param waiting - its turn is given up, with the signal's reason, if that fires before it has come
   */
  run<T>(name: string, work: () => Promise<T>, waiting?: AbortSignal): Promise<T> {
    const before = this.#last.get(name) ?? Promise.resolve()
    const turn = before.then(() => {
      waiting?.throwIfAborted()
      return work()
    })
    const over = turn.then(nothing, nothing)
    const result = waiting === undefined ? turn : orGivenUp(turn, before, waiting)
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

/** As `turn`, but rejects as soon as the signal fires before the turn has come. */
function orGivenUp<T>(turn: Promise<T>, before: Promise<void>, waiting: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(waiting.reason)
    waiting.addEventListener('abort', giveUp)
    void before.then(() => waiting.removeEventListener('abort', giveUp))
    turn.then(resolve, reject)
  })
}

/** The outcome is the caller's of `run`; here only the end counts. */
function nothing(): void {}
