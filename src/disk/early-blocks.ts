/**
 * Blocks that came as bytes: a guest has them before they are stored, or the pool cannot keep them at all.
 *
 * A guest mostly reads on in such a block at once, 4 KiB after 4 KiB, and each of these reads would ask for all of it anew. An image's
 * block never changes, so what came is right for as long as anybody likes to keep it.
 */

/** 4 MiB for each disk: what comes over a fast line while the host's disk takes its time. */
export const MAX_EARLY_BLOCKS = 64

export class EarlyBlocks {
  readonly #isStored: (block: number) => boolean
  /** The oldest first. */
  readonly #blocks = new Map<number, Uint8Array>()

  /** @param isStored - whether a block can be read from the pool by now */
  constructor(isStored: (block: number) => boolean) {
    this.#isStored = isStored
  }

  get(block: number): Uint8Array | undefined {
    return this.#blocks.get(block)
  }

  /** Takes the bytes of a whole block; gives up those that are stored by now, and the oldest where there are too many. */
  add(block: number, bytes: Uint8Array): void {
    this.#blocks.delete(block)
    for (const other of this.#blocks.keys()) if (this.#isStored(other)) this.#blocks.delete(other)
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size < MAX_EARLY_BLOCKS) break
      this.#blocks.delete(oldest)
    }
    this.#blocks.set(block, bytes)
  }
}
