/**
 * Brings together a piece of known length that may arrive in parts.
 *
 * A piece that lies whole in one chunk is handed out where it lies. Only one that is split is copied, once, into a
 * buffer of its own: nothing is ever concatenated.
 */
export class Gather {
  /** The piece, when `whole`. Valid until the next `take`. */
  piece: Buffer = Buffer.alloc(0)
  whole = false
  readonly #maxBytes: number
  #own: Buffer | undefined
  #have = 0

  /** @param maxBytes - the longest piece */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /**
   * Takes from `chunk`, beginning at `position`, what is missing of a piece of `length` bytes.
   *
   * @returns how many bytes were taken; `whole` then tells whether `piece` is complete
   */
  take(chunk: Buffer, position: number, length: number): number {
    const left = chunk.length - position
    if (this.#have === 0 && left >= length) {
      this.piece = chunk.subarray(position, position + length)
      this.whole = true
      return length
    }
    this.#own ??= Buffer.allocUnsafeSlow(this.#maxBytes)
    const taken = Math.min(left, length - this.#have)
    chunk.copy(this.#own, this.#have, position, position + taken)
    this.#have += taken
    this.whole = this.#have === length
    if (this.whole) {
      this.piece = this.#own.subarray(0, length)
      this.#have = 0
    }
    return taken
  }
}
