/**
 * A disk that is a plain file: the simplest honest BlockDevice, to test and measure the NBD server without a machine.
 *
 * Reads and writes answer synchronously, as a local disk of rowan does; flush is an fdatasync.
 */
import { closeSync, fdatasync, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import type { BlockDevice, Extent, ZeroOptions } from '../../src/disk/block-device.ts'
import { RowanError } from '../../src/errors.ts'

const ZEROS = new Uint8Array(1024 * 1024)
const synchronize = promisify(fdatasync)

export class FileDevice implements BlockDevice {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly #file: number

  constructor(path: string, options: { readOnly?: boolean } = {}) {
    this.readOnly = options.readOnly ?? false
    this.#file = openSync(path, this.readOnly ? 'r' : 'r+')
    this.sizeBytes = fstatSync(this.#file).size
  }

  read(offset: number, target: Uint8Array): void {
    this.#check(offset, target.length, false)
    for (let done = 0; done < target.length; ) {
      const count = readSync(this.#file, target, done, target.length - done, offset + done)
      if (count === 0) throw new RowanError('STORE_IO', `the file ends before ${offset + done}`)
      done += count
    }
  }

  write(offset: number, data: Uint8Array, options?: { fua?: boolean }): void {
    this.#check(offset, data.length, true)
    this.#put(offset, data)
    if (options?.fua === true) fdatasyncSync(this.#file)
  }

  async flush(): Promise<void> {
    await synchronize(this.#file)
  }

  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void {
    this.writeZeroes(offset, lengthBytes, options)
  }

  writeZeroes(offset: number, lengthBytes: number, options?: ZeroOptions): void {
    this.#check(offset, lengthBytes, true)
    if (options?.fast === true) throw new RowanError('NOT_FAST', 'a file is filled with zeros byte by byte')
    for (let done = 0; done < lengthBytes; done += ZEROS.length) {
      this.#put(offset + done, ZEROS.subarray(0, Math.min(ZEROS.length, lengthBytes - done)))
    }
    if (options?.fua === true) fdatasyncSync(this.#file)
  }

  extents(offset: number, lengthBytes: number): Extent[] {
    this.#check(offset, lengthBytes, false)
    return lengthBytes === 0 ? [] : [{ lengthBytes, isHole: false, isZero: false, isLocal: true }]
  }

  cache(offset: number, lengthBytes: number): void {
    this.#check(offset, lengthBytes, false)
  }

  close(): void {
    closeSync(this.#file)
  }

  #put(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      done += writeSync(this.#file, data, done, data.length - done, offset + done)
    }
  }

  #check(offset: number, lengthBytes: number, modifies: boolean): void {
    if (modifies && this.readOnly) throw new RowanError('READ_ONLY', 'the file was opened read-only')
    if (offset + lengthBytes > this.sizeBytes) {
      throw new RowanError('OUT_OF_RANGE', `${offset} + ${lengthBytes} is past the end at ${this.sizeBytes}`)
    }
  }
}
