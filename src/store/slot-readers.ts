/**
 * Who may still know a slot that was dropped, and when all of them have let go of it.
 *
 * Dropped slots are retired in batches, each under a number that grows, its *epoch*. A reader that looks slots up and
 * reads them in one synchronous go on the thread of the pool never holds one across a drop, and need not join. A reader
 * that may be in the middle of a read (a thread that serves a disk from the shared slot maps) joins: it is told of each
 * batch, and answers with the epoch once whatever it had looked up before is read, and the descriptors of a segment
 * that is going are closed. A slot is given out again, and a file unlinked, only when every reader has answered.
 *
 * Owns: the epochs. Does not own: slots (pool.ts), how a thread is told.
 */
import { RowanError } from '../errors.ts'

/** Disks that are served apart from the pool's thread. */
export const MAX_SLOT_READERS = 1024

export interface RetiredBatch {
  epoch: number
  slots: readonly number[]
  /** A segment file that is about to be unlinked: its descriptor must be closed too. */
  segment?: number
}

export interface SlotReaderHandle {
  /** Nothing that was looked up before the batch of this epoch is in use any more; that holds for earlier ones too. */
  letGo(epoch: number): void
  /** The reader is gone; nobody waits for it any more. */
  leave(): void
}

export class SlotReaders {
  /** The newest epoch that each has let go of. */
  readonly #readers = new Map<object, { told: (batch: RetiredBatch) => void; letGo: number }>()
  /** In the order of their epochs. */
  readonly #waiting: { epoch: number; release: () => void }[] = []
  #epoch = 0

  /** @param told - called synchronously for each batch from now on; what was dropped before the reader cannot know */
  join(told: (batch: RetiredBatch) => void): SlotReaderHandle {
    if (this.#readers.size >= MAX_SLOT_READERS) {
      throw new RowanError('LIMIT_EXCEEDED', `more than ${MAX_SLOT_READERS} readers of the pool`)
    }
    const key = {}
    this.#readers.set(key, { told, letGo: this.#epoch })
    return {
      letGo: epoch => {
        const reader = this.#readers.get(key)
        if (reader === undefined || epoch <= reader.letGo) return
        reader.letGo = epoch
        this.#release()
      },
      leave: () => {
        this.#readers.delete(key)
        this.#release()
      }
    }
  }

  /** Calls `release`, at once if there are no readers, when all that there are now have let go of these. */
  retire(batch: Omit<RetiredBatch, 'epoch'>, release: () => void): void {
    const epoch = ++this.#epoch
    this.#waiting.push({ epoch, release })
    for (const { told } of [...this.#readers.values()]) told({ ...batch, epoch })
    this.#release()
  }

  #release(): void {
    let letGo = this.#epoch
    for (const reader of this.#readers.values()) letGo = Math.min(letGo, reader.letGo)
    while (this.#waiting.length > 0 && this.#waiting[0]!.epoch <= letGo) this.#waiting.shift()!.release()
  }
}
