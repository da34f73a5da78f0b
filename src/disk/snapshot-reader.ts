/**
 * The bytes of a disk as they were at a snapshot, read beside whoever uses the machine.
 *
 * It has files of its own open, so that layers may be merged or given up meanwhile; the snapshot itself must stay.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { ZERO } from '../store/local-image.ts'
import { type Chain, type DiskName, pathTo } from './chain.ts'
import type { FrozenMap } from './frozen-map.ts'
import type { BaseImage, ImageReader } from './image-reader.ts'
import type { LayerComponents } from './layer.ts'
import { SECTOR_BYTES } from './layer-map.ts'
import { openFrozen } from './layer-stack.ts'
import { CODE_ABSENT, CODE_ZERO } from './owner-page.ts'
import { readBelow } from './read-below.ts'

/** Blocks looked at before others have their turn on this thread; about a millisecond. */
const BLOCKS_PER_TURN = 8192

export class SnapshotReader {
  readonly sizeBytes: number
  readonly #frozen: FrozenMap | undefined
  readonly #image: ImageReader
  readonly #base: Pick<BaseImage, 'peek'>

  /**
   * @param place - of the snapshot, in the tree of the disk's layers
   * @throws RowanError as `FrozenLayer.open`
   */
  constructor(
    components: Pick<LayerComponents, 'log' | 'files'> & { image: Pick<BaseImage, 'peek'>; reader: ImageReader },
    folder: string,
    chain: Chain,
    disk: DiskName,
    place: string | null
  ) {
    const state = chain.disks[disk]!
    const path = pathTo(state, place)
    this.sizeBytes = state.sizeBytes
    this.#frozen = path.length === 0 ? undefined : openFrozen(components, folder, chain, disk, path)
    this.#image = components.reader
    this.#base = components.image
  }

  /** Fills `target` with the bytes from `offset` on, and fetches what is not here. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    const pending: Promise<void>[] = []
    try {
      readBelow(this.#frozen, this.#image, offset, target, 0, target.length, pending)
    } finally {
      // Nobody may write into the caller's buffer afterwards.
      await Promise.allSettled(pending)
    }
    await Promise.all(pending)
  }

  /**
   * The beginning of the first block, from the one of `offset` on, that is not known to be zero; the disk's size if there is
   * none. Bounded work at a time, so that others have their turn.
   */
  async nextData(offset: number, signal: AbortSignal): Promise<number> {
    // Behind a last, short block there is none: rounded down, this would be that block again, for ever.
    if (offset >= this.sizeBytes) return this.sizeBytes
    const frozen = this.#frozen
    let looked = 0
    for (let at = Math.floor(offset / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES; at < this.sizeBytes; ) {
      const end = Math.min(at + BLOCK_SIZE_BYTES, this.sizeBytes)
      if (!this.#isZero(frozen, at, end)) return at
      at = end
      if (++looked % BLOCKS_PER_TURN === 0) {
        await new Promise(resolve => setImmediate(resolve))
        signal.throwIfAborted()
      }
    }
    return this.sizeBytes
  }

  #isZero(frozen: FrozenMap | undefined, start: number, end: number): boolean {
    const isZeroInImage = this.#base.peek(Math.floor(start / BLOCK_SIZE_BYTES)) === ZERO
    if (frozen === undefined) return isZeroInImage
    const last = Math.ceil(end / SECTOR_BYTES)
    for (let sector = Math.floor(start / SECTOR_BYTES); sector < last; sector = frozen.end) {
      const code = frozen.find(sector, last)
      if (code !== CODE_ZERO && !(code === CODE_ABSENT && isZeroInImage)) return false
    }
    return true
  }

  /** Reads that wait for blocks reject with DISK_CLOSED, and so do later ones that would. */
  stop(): void {
    this.#image.stop()
  }

  close(): void {
    this.#frozen?.close()
  }
}
