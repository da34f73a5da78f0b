/**
 * Records a boot: the first touches of an image's blocks, until the guest has become quiet.
 *
 * A step machine: touches come in, and whoever has a clock asks now and then whether the recording is over. A disk that is attached long
 * before a guest boots from it, or is looked at by a tool first, is not quiet after a boot: silence counts once enough has been touched.
 */
import { type BootProfile, MAX_PROFILE_ENTRIES, type ProfileEntry } from '../image/boot-profile.ts'
import type { TouchSink } from './first-touches.ts'

/** No block touched for the first time in this long: the boot is over. A guest that waits for the network is silent, too. */
export const QUIET_MS = 20_000
/** Fewer are a look at the partition table, not a boot. */
export const MIN_BOOT_BLOCKS = 16
export const MAX_RECORDING_MS = 10 * 60_000

export class BootRecorder implements TouchSink {
  readonly #entries: ProfileEntry[] = []

  /** Since the disk was attached; undefined before the first touch. */
  get lastTouchMs(): number | undefined {
    return this.#entries.at(-1)?.atMs
  }

  /** Touches so far. */
  get count(): number {
    return this.#entries.length
  }

  touched(block: number, sinceAttachMs: number): void {
    const firstMs = this.#entries[0]?.atMs ?? sinceAttachMs
    if (this.#entries.length >= MAX_PROFILE_ENTRIES || sinceAttachMs - firstMs > MAX_RECORDING_MS) return
    this.#entries.push({ block, atMs: sinceAttachMs })
  }

  /** Whether nothing of a boot is to be expected any more. */
  isOver(sinceAttachMs: number): boolean {
    const first = this.#entries[0]
    const last = this.#entries.at(-1)
    if (first === undefined || last === undefined || this.#entries.length < MIN_BOOT_BLOCKS) return false
    if (this.#entries.length >= MAX_PROFILE_ENTRIES) return true
    return sinceAttachMs - last.atMs >= QUIET_MS || sinceAttachMs - first.atMs > MAX_RECORDING_MS
  }

  /**
   * What was recorded so far, in milliseconds since the first touch, for a disk may be attached for weeks before a guest boots from it;
   * undefined if that is no boot.
   *
   * @param isData - false for blocks that nobody has to fetch: those that are all zero
   */
  profile(isData: (block: number) => boolean): BootProfile | undefined {
    if (this.#entries.length < MIN_BOOT_BLOCKS) return undefined
    const firstMs = this.#entries[0]!.atMs
    return this.#entries
      .filter(({ block }) => isData(block))
      .map(({ block, atMs }) => ({ block, atMs: atMs - firstMs }))
  }
}
