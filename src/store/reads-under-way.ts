/**
 * Which reads of a thread still use a slot or a descriptor that somebody wants to let go of.
 *
 * Reads come in batches: `after` closes the batch of those that are under way, and what it is given runs when they and all
 * before them are over. Later reads are none of its business, so a busy reader holds up nobody.
 */

/** What a read takes from `begin` and gives to `end`. */
export interface ReadBatch {
  left: number
  run: (() => void) | undefined
}

export class ReadsUnderWay {
  /** In the order of closing; the last one is open. */
  readonly #batches: ReadBatch[] = [{ left: 0, run: undefined }]

  begin(): ReadBatch {
    const batch = this.#batches.at(-1)!
    batch.left += 1
    return batch
  }

  end(batch: ReadBatch): void {
    batch.left -= 1
    if (batch.left === 0 && this.#batches.length > 1) this.#runFinished()
  }

  /** Calls `run`, at once if nothing is under way, when all reads that have begun are over. */
  after(run: () => void): void {
    this.#batches.at(-1)!.run = run
    this.#batches.push({ left: 0, run: undefined })
    this.#runFinished()
  }

  #runFinished(): void {
    while (this.#batches.length > 1 && this.#batches[0]!.left === 0) this.#batches.shift()!.run?.()
  }
}
