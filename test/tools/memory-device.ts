/**
 * A disk in memory whose answers a test can hold back or turn into failures, to see what an NBD server makes of it.
 *
 * In the manner of nbdkit's delay and error filters: `hold` makes every request wait for `release`, in whatever order
 * the test likes; `fail` lets requests of a kind throw.
 */
import type { BlockDevice } from '../../src/disk/block-device.ts'
import { RowanError } from '../../src/errors.ts'

export type Operation = 'read' | 'write' | 'flush' | 'trim' | 'writeZeroes'

export interface Call {
  operation: Operation
  offset: number
  length: number
  options: { fua?: boolean; noHole?: boolean } | undefined
}

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

  write(offset: number, data: Uint8Array, options?: { fua?: boolean }): void | Promise<void> {
    return this.#do({ operation: 'write', offset, length: data.length, options }, () => {
      this.bytes.set(data, offset)
    })
  }

  async flush(): Promise<void> {
    await this.#do({ operation: 'flush', offset: 0, length: 0, options: undefined }, () => undefined)
  }

  trim(offset: number, lengthBytes: number, options?: { fua?: boolean }): void | Promise<void> {
    return this.#do({ operation: 'trim', offset, length: lengthBytes, options }, () => {
      this.bytes.fill(0, offset, offset + lengthBytes)
    })
  }

  writeZeroes(offset: number, length: number, options?: { fua?: boolean; noHole?: boolean }): void | Promise<void> {
    return this.#do({ operation: 'writeZeroes', offset, length, options }, () => {
      this.bytes.fill(0, offset, offset + length)
    })
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
