/**
 * Order among changes of the same sectors.
 *
 * A change that cannot be made at once (it needs the bytes around it, and they have to come from the network, or it
 * waits for room in the log) holds its sectors; a later change that overlaps comes after it. Otherwise the bytes that it
 * read around its own could undo an acknowledged write. Changes that do not overlap pass.
 *
 * Bounded by whoever sends requests: an entry for each request in flight.
 */
interface Entry {
  start: number
  end: number
  done: Promise<void>
}

export class RangeQueue {
  readonly #entries = new Set<Entry>()

  /** Whether nothing that holds, or waits for, any of these sectors is under way. */
  isFree(start: number, end: number): boolean {
    if (this.#entries.size === 0) return true
    for (const entry of this.#entries) if (entry.start < end && start < entry.end) return false
    return true
  }

  /** Runs `work` once all earlier entries that overlap are done, well or badly; at once, up to its first await, if none. */
  run(start: number, end: number, work: () => Promise<void>): Promise<void> {
    const earlier: Promise<void>[] = []
    for (const entry of this.#entries) if (entry.start < end && start < entry.end) earlier.push(entry.done)
    const result = earlier.length === 0 ? work() : Promise.all(earlier).then(work)
    const entry: Entry = { start, end, done: Promise.resolve() }
    const finish = () => {
      this.#entries.delete(entry)
    }
    entry.done = result.then(finish, finish)
    this.#entries.add(entry)
    return result
  }

  /** Done when everything that is under way now is. */
  async idle(): Promise<void> {
    await Promise.all([...this.#entries].map(entry => entry.done))
  }
}
