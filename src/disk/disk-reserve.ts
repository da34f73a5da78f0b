/**
 * Keeps a guest within its quota, and the last of the disk for the daemon: a guest that filled it to the last byte would also stop the catalog, whose
 * log could not even be opened again, so that a restarted daemon would serve no machine until somebody made room.
 */
import { dirname } from 'node:path'
import { RowanError } from '../errors.ts'
import type { LayerFiles } from './layer-files.ts'

/** For the catalog and the maps of the layers; what the pool leaves (free-space.ts) is more. */
export const RESERVED_BYTES = 16 * 1024 * 1024
/** Bytes that are written between two looks at the disk and the quota, which cost a few microseconds each. */
export const LOOK_EVERY_BYTES = 4 * 1024 * 1024

export class DiskReserve {
  readonly #folder: string
  readonly #files: Pick<LayerFiles, 'freeBytes'>
  readonly #quotaRoom: () => number
  #untilLookBytes = 0

  constructor(folder: string, files: Pick<LayerFiles, 'freeBytes'>, quotaRoom = () => Number.POSITIVE_INFINITY) {
    this.#quotaRoom = quotaRoom
    this.#folder = folder
    this.#files = files
  }

  /** To be called before `bytes` are written where nothing was before. Throws DISK_FULL, LAYERS_FULL, and then has taken nothing. */
  take(bytes: number): void {
    if (bytes <= this.#untilLookBytes) {
      this.#untilLookBytes -= bytes
      return
    }
    const freeBytes = this.#files.freeBytes(this.#folder)
    const leftBytes = freeBytes - bytes - RESERVED_BYTES
    if (leftBytes < 0) {
      const says = `${freeBytes} bytes are free on the disk of ${this.#folder}`
      throw new RowanError('DISK_FULL', `${says}; ${RESERVED_BYTES} must stay free`)
    }
    const quotaLeftBytes = this.#quotaRoom() - bytes
    if (quotaLeftBytes < 0) {
      const says = `the layers of ${dirname(this.#folder)} have reached [machine] layerQuota`
      throw new RowanError('LAYERS_FULL', `${says}; discard snapshots, trim the disk, or raise it`)
    }
    this.#untilLookBytes = Math.min(LOOK_EVERY_BYTES, leftBytes, quotaLeftBytes)
  }
}
