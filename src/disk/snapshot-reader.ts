/**
 * The bytes of a disk as they were at a snapshot, read beside whoever uses the machine.
 *
 * It has files of its own open, so that layers may be merged or given up meanwhile; the snapshot itself must stay.
 */
import type { Chain, DiskName } from './chain.ts'
import { pathTo } from './chain.ts'
import type { FrozenMap } from './frozen-map.ts'
import type { ImageReader } from './image-reader.ts'
import type { LayerComponents } from './layer.ts'
import { openFrozen } from './layer-stack.ts'
import { readBelow } from './read-below.ts'

export class SnapshotReader {
  readonly sizeBytes: number
  readonly #frozen: FrozenMap | undefined
  readonly #image: ImageReader

  /**
   * @param place - of the snapshot, in the tree of the disk's layers
   * @throws RowanError as `FrozenLayer.open`
   */
  constructor(
    components: Pick<LayerComponents, 'log' | 'files'> & { image: ImageReader },
    folder: string,
    chain: Chain,
    disk: DiskName,
    place: string | null
  ) {
    const state = chain.disks[disk]!
    const path = pathTo(state, place)
    this.sizeBytes = state.sizeBytes
    this.#frozen = path.length === 0 ? undefined : openFrozen(components, folder, chain, disk, path)
    this.#image = components.image
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

  close(): void {
    this.#frozen?.close()
  }
}
