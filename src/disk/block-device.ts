/**
 * What an NBD server needs of a disk, and nothing more.
 *
 * Methods that return `void | Promise<void>` answer synchronously where the bytes are at hand (a local read is one
 * `pread` into the caller's buffer) and with a promise where somebody must be waited for. They throw, or reject with,
 * RowanError. Ranges are checked by the device: OUT_OF_RANGE, READ_ONLY.
 */
/** What a part of a disk is: all that can be said without reading or fetching it. */
export interface Extent {
  lengthBytes: number
  /** Nothing is stored for it: a write may need space. Only where it reads as zeros. */
  isHole: boolean
  /** It is known to read as zeros. Where it is not, nothing is known of the content. */
  isZero: boolean
  /** A read waits for nobody. */
  isLocal: boolean
}

export interface ZeroOptions {
  fua?: boolean
  noHole?: boolean
  fast?: boolean
}

/** `alone` is of use with `fua` only. */
export interface WriteOptions extends FlushOptions {
  fua?: boolean
}

export interface FlushOptions {
  /** Nobody else waits, as far as is known: what is quick may be done while the caller waits, too. */
  alone?: boolean
}

export interface BlockDevice {
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** Fills `target` with the bytes at `offset`; the caller must not touch `target` until it is done. */
  read(offset: number, target: Uint8Array): void | Promise<void>
  /** Takes `data` at `offset`; with `fua` this very range is durable when it is done. `data` may be reused afterwards. */
  write(offset: number, data: Uint8Array, options?: WriteOptions): void | Promise<void>
  /**
   * What was answered at once since the last call survives the death of this process. To be called before a client hears
   * of a change; so the changes that came together cost one write of their log. If it throws, no client may hear.
   */
  settle?(): void
  /** All that was acknowledged before the call is durable when it is done. */
  flush(options?: FlushOptions): void | Promise<void>
  /** The range reads as zeros afterwards, and its space may be given back. */
  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void | Promise<void>
  /**
   * The range reads as zeros afterwards; with `noHole` its space stays reserved where that is possible. With `fast` a
   * device that would be no faster than with a write of zeros throws NOT_FAST at once, and changes nothing.
   */
  writeZeroes(offset: number, lengthBytes: number, options?: ZeroOptions): void | Promise<void>
  /**
   * What the disk is from `offset` on, in order; neighbours differ. At most `maxExtents`, and no more than can be told
   * at once: what is returned may end before the range does, but never where it begins, unless the range is empty.
   */
  extents(offset: number, lengthBytes: number, maxExtents: number): Extent[]
  /**
   * False where no part of the range is known to read as zeros, so that `extents` need not be asked; true also where only
   * `extents` can tell. For every read of a guest, so it costs next to nothing.
   */
  mayBeZero?(offset: number, lengthBytes: number): boolean
  /**
   * Brings the range here, behind whatever a guest waits for; done when all of it is here, or has no place to stay.
   * A failure harms nobody: a later read fetches what is missing.
   *
   * @param options.signal - nobody waits any more: what is on the way is called off, and it rejects soon
   */
  cache(offset: number, lengthBytes: number, options?: { signal?: AbortSignal }): void | Promise<void>
}
