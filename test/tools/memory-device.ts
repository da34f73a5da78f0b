/**
 * A disk in memory whose answers a test can hold back or turn into failures, to see what an NBD server makes of it.
 *
 * In the manner of nbdkit's delay and error filters: `hold` makes every request wait for `release`, in whatever order
 * the test likes; `fail` lets requests of a kind throw.
 */
import type { BlockDevice, Extent, FlushOptions, WriteOptions, ZeroOptions } from '../../src/disk/block-device.ts'
import { RowanError } from '../../src/errors.ts'

export type Operation = 'read' | 'write' | 'flush' | 'trim' | 'writeZeroes' | 'cache'

export interface Call {
  operation: Operation
  offset: number
  length: number
  options: (ZeroOptions & FlushOptions) | undefined
}

const SECTOR_BYTES = 512
const ZEROS = Buffer.alloc(SECTOR_BYTES)

interface Held extends Call {
  release: () => void
}

export class MemoryDevice implements BlockDevice {
  readonly bytes: Buffer
  readonly readOnly: boolean
  /** What was asked, in order. */
  readonly calls: Call[] = []
  /** Requests that wait for the test. */
  readonly held: Held[] = []
  /** Answers with a promise from now on, once the test releases it. */
  hold: (call: Call) => boolean = () => false
  /** Fails what it returns an error for, at once or, if held, later. */
  fail: (call: Call) => Error | undefined = () => undefined

  /** How many calls had come when the server last asked to settle them. */
  settled = 0
  failSettle: () => Error | undefined = () => undefined

  /** Whether writing zeros is quick. */
  zeroesFast = true
  /** Whether the sector at an offset is here. */
  isLocal: (offset: number) => boolean = () => true

  constructor(content: number | Uint8Array, options: { readOnly?: boolean } = {}) {
    this.bytes = typeof content === 'number' ? Buffer.alloc(content) : Buffer.from(content)
    this.readOnly = options.readOnly ?? false
  }

  get sizeBytes(): number {
    return this.bytes.length
  }

  read(offset: number, target: Uint8Array): void | Promise<void> {
    return this.#do({ operation: 'read', offset, length: target.length, options: undefined }, () => {
      target.set(this.bytes.subarray(offset, offset + target.length))
    })
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): void | Promise<void> {
    return this.#do({ operation: 'write', offset, length: data.length, options }, () => {
      this.bytes.set(data, offset)
    })
  }

  settle(): void {
    this.settled = this.calls.length
    const error = this.failSettle()
    if (error !== undefined) throw error
  }

  flush(options?: FlushOptions): void | Promise<void> {
    return this.#do({ operation: 'flush', offset: 0, length: 0, options }, () => undefined)
  }

  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void | Promise<void> {
    return this.#do({ operation: 'trim', offset, length: lengthBytes, options }, () => {
      this.bytes.fill(0, offset, offset + lengthBytes)
    })
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): void | Promise<void> {
    if (options?.fast === true && !this.zeroesFast) throw new RowanError('NOT_FAST', 'so the test wishes')
    return this.#do({ operation: 'writeZeroes', offset, length, options }, () => {
      this.bytes.fill(0, offset, offset + length)
    })
  }

  /** By looking: a sector of zeros is a hole. */
  extents(offset: number, lengthBytes: number, maxExtents: number): Extent[] {
    if (offset + lengthBytes > this.sizeBytes) throw new RowanError('OUT_OF_RANGE', 'past the end of the disk')
    const found: Extent[] = []
    const end = offset + lengthBytes
    for (let at = offset; at < end; ) {
      const sectorEnd = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES)
      const isZero = this.bytes.subarray(at, sectorEnd).equals(ZEROS.subarray(0, sectorEnd - at))
      const isLocal = this.isLocal(at)
      const last = found.at(-1)
      if (last?.isZero === isZero && last.isLocal === isLocal) last.lengthBytes += sectorEnd - at
      else if (found.length === maxExtents) break
      else found.push({ lengthBytes: sectorEnd - at, isHole: isZero, isZero, isLocal })
      at = sectorEnd
    }
    return found
  }

  cache(offset: number, length: number, _options?: { signal?: AbortSignal }): void | Promise<void> {
    return this.#do({ operation: 'cache', offset, length, options: undefined }, () => undefined)
  }

  /** Lets everything go that waits. */
  releaseAll(): void {
    for (const held of this.held.splice(0)) held.release()
  }

  #do(call: Call, work: () => void): void | Promise<void> {
    this.calls.push(call)
    const finish = () => {
      const error = this.fail(call)
      if (error !== undefined) throw error
      if (call.offset + call.length > this.sizeBytes) throw new RowanError('OUT_OF_RANGE', 'past the end of the disk')
      work()
    }
    if (!this.hold(call)) return finish()
    return new Promise<void>(resolve => {
      this.held.push({ ...call, release: resolve })
    }).then(finish)
  }
}
