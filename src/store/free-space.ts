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
  /** What was taken and may not be on the disk yet: others may look meanwhile. */
  #underWayBytes = 0
  #untilLookBytes = 0

  constructor(directory: string, minFreeBytes: number) {
    this.#directory = directory
    this.#minFreeBytes = minFreeBytes
  }

  /**
   * To be called before `bytes` are written, and `settled` afterwards. Throws DISK_FULL if less than the minimum would stay free;
   * then nothing was taken.
   */
  async take(bytes: number): Promise<void> {
    this.#underWayBytes += bytes
    this.#untilLookBytes -= bytes
    if (this.#untilLookBytes >= 0) return
    try {
      await this.#look()
    } catch (error) {
      this.settled(bytes)
      throw error
    }
  }

  /** What was taken is written, or will not be. */
  settled(bytes: number): void {
    this.#underWayBytes -= bytes
  }

  async #look(): Promise<void> {
    const freeBytes = await this.#freeBytes()
    // Of what is under way some is on the disk already, and counts twice: near the end this errs on the safe side.
    const leftBytes = freeBytes - this.#underWayBytes - this.#minFreeBytes
    if (leftBytes < 0) {
      throw new RowanError(
        'DISK_FULL',
        `${freeBytes} bytes are free on the disk of ${this.#directory}; ${this.#minFreeBytes} must stay free`
      )
    }
    this.#untilLookBytes = Math.min(LOOK_EVERY_BYTES, leftBytes)
  }

  async #freeBytes(): Promise<number> {
    try {
      const { bavail, bsize } = await statfs(this.#directory)
      return bavail * bsize
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `${this.#directory} cannot be looked at`)
    }
  }
}
