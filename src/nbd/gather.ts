/**
 * Brings together a piece of known length that may arrive in parts.
 *
 * A piece that lies whole in one chunk is handed out where it lies. Only one that is split is copied, once, into a
 * buffer of its own: nothing is ever concatenated.
 */
export class Gather {
  whole = false
  /** Where the piece lies, when `whole`, and where it begins there. Valid until the next `take`. */
  bytes: Buffer = Buffer.alloc(0)
  start = 0
  readonly #maxBytes: number
  #length = 0
  #own: Buffer | undefined
  #have = 0

  /** @param maxBytes - the longest piece */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** The piece by itself, when `whole`: for each request that would be an object too many. */
  get piece(): Buffer {
    return this.bytes.subarray(this.start, this.start + this.#length)
  }

  /**
   * Takes from `chunk`, beginning at `position`, what is missing of a piece of `length` bytes.
   *
   * @returns how many bytes were taken; `whole` then tells whether the piece is complete
   */
  take(chunk: Buffer, position: number, length: number): number {
    const left = chunk.length - position
    this.#length = length
    if (this.#have === 0 && left >= length) {
      this.bytes = chunk
      this.start = position
      this.whole = true
      return length
    }
    this.#own ??= Buffer.allocUnsafeSlow(this.#maxBytes)
    const taken = Math.min(left, length - this.#have)
    chunk.copy(this.#own, this.#have, position, position + taken)
    this.#have += taken
    this.whole = this.#have === length
    if (this.whole) {
      this.bytes = this.#own
      this.start = 0
      this.#have = 0
    }
    return taken
  }
}
