/**
 * The snapshots of one machine that are being read for an export, beside whoever uses the machine.
 *
 * A reader has files of its own (disk/snapshot-reader.ts), and a block that is not here is fetched below every guest's
 * reads. While somebody reads a snapshot it must not be discarded: `isRead` says so to the machine.
 *
 * Owns: how often each snapshot is being read. Does not own: the layers, nor the snapshot itself; whether one was made
 * only to be read is the machine's to know.
 */
import { isDeepStrictEqual } from 'node:util'
import { type Chain, type DiskName, snapshotOf } from '../disk/chain.ts'
import { EmptyImage } from '../disk/empty-image.ts'
import { ImageReader } from '../disk/image-reader.ts'
import { SnapshotReader } from '../disk/snapshot-reader.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { LocalImage } from '../store/images.ts'
import type { MachineComponents } from './components.ts'

/** What is to be read. */
export interface ReadPlace {
  machine: string
  image: LocalImage
  layersFolder: string
  /** As it is now; the thread of the disk may change it at any time. */
  readChain: () => Chain
  /** Undefined: the image below all layers. */
  snapshot: string | undefined
  disk: DiskName
}

export interface OpenedSnapshot {
  reader: SnapshotReader
  /** To be called when it is not needed any more. */
  release: () => Promise<void>
}

export class SnapshotExports {
  readonly #components: Pick<MachineComponents, 'pool' | 'swarm' | 'clock' | 'log'>
  /** Snapshots that are being read, and how often. */
  readonly #readers = new Map<string, number>()

  constructor(components: Pick<MachineComponents, 'pool' | 'swarm' | 'clock' | 'log'>) {
    this.#components = components
  }

  isRead(snapshot: string): boolean {
    return this.#readers.has(snapshot)
  }

  /**
   * @param released - called when this reader has let go, also when it cannot be opened
   * @throws RowanError SNAPSHOT_UNKNOWN; what opening the layers' files throws
   */
  async open(what: ReadPlace, released: () => Promise<void>): Promise<OpenedSnapshot> {
    const { image, snapshot, disk, machine } = what
    const { pool, swarm, clock } = this.#components
    const chain = what.readChain()
    const place = snapshot === undefined ? null : snapshotOf(chain, snapshot).at[disk]
    const sizeBytes = chain.disks[disk]?.sizeBytes
    if (place === undefined || sizeBytes === undefined) {
      await released()
      const of = snapshot === undefined ? machine : `${machine} at ${snapshot}`
      throw new RowanError('SNAPSHOT_UNKNOWN', `there is no ${disk} disk of ${of}`)
    }
    // The guests' own reads go first, and what is read here is no part of a boot.
    const source = {
      want: (id: string, block: number, _priority: unknown, options?: { signal?: AbortSignal }) =>
        swarm.want(id, block, 'fill', options)
    }
    const below = disk === 'data' ? new EmptyImage(sizeBytes) : image
    const base = new ImageReader({ image: below, pool, source, clock })
    if (snapshot !== undefined) this.#readers.set(snapshot, (this.#readers.get(snapshot) ?? 0) + 1)
    const endUse = image.use()
    const letGo = async () => {
      endUse()
      base.stop()
      if (snapshot !== undefined) this.#oneLess(snapshot)
      await released()
    }
    try {
      const reader = this.#reader(what, chain, below, base)
      return {
        reader,
        release: async () => {
          reader.close()
          await letGo()
        }
      }
    } catch (error) {
      await letGo()
      throw error
    }
  }

  /** Between the reading of the chain and the opening of its layers some may be merged: then the chain is another by now. */
  #reader(what: ReadPlace, before: Chain, image: LocalImage | EmptyImage, reader: ImageReader): SnapshotReader {
    const { layersFolder, snapshot, disk, readChain } = what
    const { log } = this.#components
    for (let chain = before; ; ) {
      const place = snapshot === undefined ? null : snapshotOf(chain, snapshot).at[disk]!
      try {
        return new SnapshotReader({ log, image, reader }, layersFolder, chain, disk, place)
      } catch (error) {
        const now = readChain()
        if (asRowanError(error).code !== 'LAYER_CORRUPT' || isDeepStrictEqual(now, chain)) throw error
        chain = now
      }
    }
  }

  #oneLess(snapshot: string): void {
    const left = this.#readers.get(snapshot)! - 1
    if (left > 0) this.#readers.set(snapshot, left)
    else this.#readers.delete(snapshot)
  }
}
