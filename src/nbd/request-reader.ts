/**
 * Cuts what a client sends in the transmission phase into requests.
 *
 * The fields of the request at hand are properties of the reader, so that nothing is allocated for a request. The
 * caller alternates: `readHeader`, then for a write `readPayload` or `skipPayload`, each until it says true; false
 * means that the chunk is used up. A payload that lies whole in a chunk is handed out where it lies; a split one is
 * copied once, into a buffer of the pool.
 *
 * A compact header is 28 bytes, and only a write has a payload. An extended one is 32 bytes with a length of 64 bits,
 * and its flag PAYLOAD_LEN says that this is the length of a payload.
 */
import type { BufferPool } from './buffer-pool.ts'
import { Gather } from './gather.ts'
import {
  COMMAND,
  COMMAND_FLAG,
  EXTENDED_REQUEST_HEADER_BYTES,
  EXTENDED_REQUEST_MAGIC,
  REQUEST_HEADER_BYTES,
  REQUEST_MAGIC
} from './protocol.ts'
import type { RequestId } from './reply-format.ts'

const TWO_TO_32 = 2 ** 32

/** A payload, and the pooled buffer that it lies in, if it lies in one; whoever takes it gives that back. */
export interface Payload {
  data: Buffer
  pooled: Buffer | undefined
}

export class RequestReader implements RequestId {
  /** Of the request whose header was read last. */
  magicIsRight = true
  flags = 0
  command = 0
  cookieHigh = 0
  cookieLow = 0
  offsetHigh = 0
  offsetLow = 0
  /** Exact up to 2^53; more is past the end of any disk anyway. So with the length. */
  offset = 0
  length = 0
  /** What follows the header. */
  payloadBytes = 0

  readonly #buffers: BufferPool
  readonly #extended: boolean
  readonly #header: Gather
  #chunk: Buffer = Buffer.alloc(0)
  #position = 0
  /** The payload being put together, and how much of it is there. */
  #collecting: Buffer | undefined
  #collected = 0
  #skipped = 0

  constructor(components: { buffers: BufferPool }, settings: { extended: boolean }) {
    this.#buffers = components.buffers
    this.#extended = settings.extended
    this.#header = new Gather(this.#headerBytes)
  }

  get #headerBytes(): number {
    return this.#extended ? EXTENDED_REQUEST_HEADER_BYTES : REQUEST_HEADER_BYTES
  }

  /** Goes on with `chunk`; the one before must be used up. */
  push(chunk: Buffer, position = 0): void {
    this.#chunk = chunk
    this.#position = position
  }

  get exhausted(): boolean {
    return this.#position === this.#chunk.length
  }

  readHeader(): boolean {
    if (this.exhausted) return false
    this.#position += this.#header.take(this.#chunk, this.#position, this.#headerBytes)
    if (!this.#header.whole) return false
    const { bytes, start } = this.#header
    this.magicIsRight = bytes.readUInt32BE(start) === (this.#extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC)
    this.flags = bytes.readUInt16BE(start + 4)
    this.command = bytes.readUInt16BE(start + 6)
    this.cookieHigh = bytes.readUInt32BE(start + 8)
    this.cookieLow = bytes.readUInt32BE(start + 12)
    this.offsetHigh = bytes.readUInt32BE(start + 16)
    this.offsetLow = bytes.readUInt32BE(start + 20)
    this.offset = this.offsetHigh * TWO_TO_32 + this.offsetLow
    const first = bytes.readUInt32BE(start + 24)
    this.length = this.#extended ? first * TWO_TO_32 + bytes.readUInt32BE(start + 28) : first
    const hasPayload = this.#extended ? (this.flags & COMMAND_FLAG.PAYLOAD_LEN) !== 0 : this.command === COMMAND.WRITE
    this.payloadBytes = hasPayload ? this.length : 0
    return true
  }

  /** The request at hand, for a reply that comes when another is at hand. */
  get id(): RequestId {
    const { command, cookieHigh, cookieLow, offsetHigh, offsetLow } = this
    return { command, cookieHigh, cookieLow, offsetHigh, offsetLow }
  }

  /** Whether the payload at hand needs a pooled buffer: it neither has one nor lies whole in the chunk. */
  get payloadNeedsBuffer(): boolean {
    return this.#collecting === undefined && this.#chunk.length - this.#position < this.payloadBytes
  }

  get isCollecting(): boolean {
    return this.#collecting !== undefined
  }

  /** The payload of the request at hand, or undefined when the chunk ends before it. */
  readPayload(): Payload | undefined {
    const left = this.#chunk.length - this.#position
    if (this.#collecting === undefined && left >= this.payloadBytes) {
      const data = this.#chunk.subarray(this.#position, this.#position + this.payloadBytes)
      this.#position += this.payloadBytes
      return { data, pooled: undefined }
    }
    this.#collecting ??= this.#buffers.take(this.payloadBytes)
    const taken = Math.min(left, this.payloadBytes - this.#collected)
    this.#chunk.copy(this.#collecting, this.#collected, this.#position, this.#position + taken)
    this.#position += taken
    this.#collected += taken
    if (this.#collected < this.payloadBytes) return undefined
    const pooled = this.#collecting
    this.#collecting = undefined
    this.#collected = 0
    return { data: pooled.subarray(0, this.payloadBytes), pooled }
  }

  /** Passes over the payload of the request at hand. */
  skipPayload(): boolean {
    const taken = Math.min(this.#chunk.length - this.#position, this.payloadBytes - this.#skipped)
    this.#position += taken
    this.#skipped += taken
    if (this.#skipped < this.payloadBytes) return false
    this.#skipped = 0
    return true
  }

  /** Gives back what was being put together: no more will come. */
  release(): void {
    if (this.#collecting !== undefined) this.#buffers.give(this.#collecting)
    this.#collecting = undefined
    this.#chunk = Buffer.alloc(0)
    this.#position = 0
  }
}
