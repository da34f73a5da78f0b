/**
 * Buffers of one block, used over and over.
 *
 * A fill takes thousands of 64-KiB buffers a second, and each new one brings the garbage collector's next run nearer. Whoever knows that
 * nobody else holds a buffer gives it back; who does not know leaves it to the collector, and nothing is lost.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'

/** 16 MiB, what may be on its way into the pool. */
const MAX_SPARE = 256

export class BlockBuffers {
  readonly #spare: Uint8Array[] = []

  take(): Uint8Array {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)
  }

  give(buffer: Uint8Array): void {
    if (buffer.byteLength === BLOCK_SIZE_BYTES && this.#spare.length < MAX_SPARE) this.#spare.push(buffer)
  }
}
