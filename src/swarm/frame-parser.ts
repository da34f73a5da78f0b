/**
 * Cuts a byte stream into frames.
 *
 * Bytes come in pieces of any size. A header is judged as soon as its 12 bytes are there, before anything of the body is kept; a
 * body is copied once, straight into a buffer of its final size. So the work is linear in the bytes, and the memory that a
 * sender can tie up is one frame of its type's greatest length and the piece at hand.
 */

import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { BlockBuffers } from './block-buffers.ts'
import { decodeHeader, FRAME, FRAME_HEADER_BYTES, type Frame, type FrameHeader, type Role } from './frames.ts'

const NOTHING = new Uint8Array(0)

export class FrameParser {
  readonly #from: Role
  readonly #buffers: BlockBuffers | undefined
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES)
  #headerFilled = 0
  #current: FrameHeader | undefined
  #body: Uint8Array = NOTHING
  #bodyFilled = 0
  #pieces: Uint8Array[] = []
  #piece = 0
  #offset = 0

  /**
   * @param from - who sends what is parsed here
   * @param buffers - where the bodies of raw blocks are put
   */
  constructor(from: Role, buffers?: BlockBuffers) {
    this.#from = from
    this.#buffers = buffers
  }

  /** Gives the next bytes of the stream; take the frames out with `next` before the next push, or they pile up. */
  push(piece: Uint8Array): void {
    if (this.#piece > 0 && this.#piece === this.#pieces.length) {
      this.#pieces = []
      this.#piece = 0
    }
    if (piece.byteLength > 0) this.#pieces.push(piece)
  }

  /** Bytes pushed that are not part of a frame yet. */
  get pendingBytes(): number {
    let bytes = this.#headerFilled + this.#bodyFilled - this.#offset
    for (let i = this.#piece; i < this.#pieces.length; i++) bytes += this.#pieces[i]!.byteLength
    return bytes
  }

  /**
   * @returns the next whole frame, or undefined when more bytes are needed
   * @throws WIRE_INVALID as decodeHeader; nothing can be parsed after that
   */
  next(): Frame | undefined {
    if (this.#current === undefined) {
      this.#headerFilled += this.#take(this.#header, this.#headerFilled)
      if (this.#headerFilled < FRAME_HEADER_BYTES) return undefined
      this.#current = decodeHeader(this.#header, this.#from)
      this.#headerFilled = 0
      this.#body = this.#bufferFor(this.#current)
      this.#bodyFilled = 0
    }
    this.#bodyFilled += this.#take(this.#body, this.#bodyFilled)
    if (this.#bodyFilled < this.#body.byteLength) return undefined
    const frame = { ...this.#current, body: this.#body }
    this.#current = undefined
    this.#bodyFilled = 0
    return frame
  }

  #bufferFor({ type, lengthBytes }: FrameHeader): Uint8Array {
    if (this.#buffers !== undefined && type === FRAME.block && lengthBytes === BLOCK_SIZE_BYTES)
      return this.#buffers.take()
    return Buffer.allocUnsafeSlow(lengthBytes)
  }

  /** Copies what is there into `target` from `filled` on; returns how much. */
  #take(target: Uint8Array, filled: number): number {
    let copied = 0
    while (filled + copied < target.byteLength && this.#piece < this.#pieces.length) {
      const piece = this.#pieces[this.#piece]!
      const count = Math.min(target.byteLength - filled - copied, piece.byteLength - this.#offset)
      target.set(piece.subarray(this.#offset, this.#offset + count), filled + copied)
      copied += count
      this.#offset += count
      if (this.#offset === piece.byteLength) {
        this.#pieces[this.#piece++] = NOTHING
        this.#offset = 0
      }
    }
    return copied
  }
}
