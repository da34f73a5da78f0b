/**
 * What an NBD server needs of a disk, and nothing more.
 *
 * Methods that return `void | Promise<void>` answer synchronously where the bytes are at hand (a local read is one
 * `pread` into the caller's buffer) and with a promise where somebody must be waited for. They throw, or reject with,
 * RowanError. Ranges are checked by the device: OUT_OF_RANGE, READ_ONLY.
 */
export interface BlockDevice {
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** Fills `target` with the bytes at `offset`; the caller must not touch `target` until it is done. */
  read(offset: number, target: Uint8Array): void | Promise<void>
  /** Takes `data` at `offset`; with `fua` the write is durable when it is done. `data` may be reused afterwards. */
  write(offset: number, data: Uint8Array, options?: { fua?: boolean }): void | Promise<void>
  /** All that was acknowledged before the call is durable when it is done. */
  flush(): Promise<void>
  /** The range reads as zeros afterwards, and its space may be given back. */
  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void | Promise<void>
  /** The range reads as zeros afterwards; with `noHole` its space stays reserved where that is possible. */
  writeZeroes(offset: number, lengthBytes: number, options?: { fua?: boolean; noHole?: boolean }): void | Promise<void>
}
