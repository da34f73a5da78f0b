/**
 * Keeps some of the disk free: a pool that fills it to the last byte would stop the catalog and the guests' layers too.
 */
import { statfs } from 'node:fs/promises'
import { asRowanError, RowanError } from '../errors.ts'

/** Bytes between two looks at the disk, which cost 50 µs each. */
const LOOK_EVERY_BYTES = 16 * 1024 * 1024

export class FreeSpace {
  readonly #directory: string
  readonly #minFreeBytes: number
  #untilLookBytes = 0

  constructor(directory: string, minFreeBytes: number) {
    this.#directory = directory
    this.#minFreeBytes = minFreeBytes
  }

  /** To be called before `bytes` are written. Throws DISK_FULL if less than the minimum would stay free. */
  async take(bytes: number): Promise<void> {
    this.#untilLookBytes -= bytes
    if (this.#untilLookBytes >= 0) return
    let freeBytes: number
    try {
      const { bavail, bsize } = await statfs(this.#directory)
      freeBytes = bavail * bsize
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `${this.#directory} cannot be looked at`)
    }
    if (freeBytes - bytes < this.#minFreeBytes) {
      throw new RowanError(
        'DISK_FULL',
        `${freeBytes} bytes are free on the disk of ${this.#directory}; ${this.#minFreeBytes} must stay free`
      )
    }
    this.#untilLookBytes = Math.min(LOOK_EVERY_BYTES, freeBytes - bytes - this.#minFreeBytes)
  }
}
