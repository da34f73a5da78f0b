/**
 * The greeting: HELLO, and the signed records that each side passes on: the newest releases, so that a crowd does not ask the holders
 * one by one, and the requester's leases of what it is here for.
 *
 * Records are offered by whoever knows appliances (a RecordExchange), and judged by it: here they are only counted and handed on, one
 * after another, beside the blocks and never in front of them.
 */

import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { FrameStream } from './frame-stream.ts'
import { encodeFrame, FRAME, type Frame, MAX_RECORD_BYTES } from './frames.ts'
import { MAX_GREETING_BYTES, MAX_RECORDS_PER_GREETING } from './limits.ts'
import { helloFrame, readHello } from './messages.ts'

/** Signed records pass between connected peers in the greeting. */
export interface RecordExchange {
  /**
   * Sealed records worth telling a peer; what is beyond the bounds of a greeting is left out.
   *
   * @param images - what this peer wants of the other as a replica; none when it is the other that wants something
   */
  offer(images: readonly string[]): Uint8Array[]
  /** Judges and keeps a record from `peer`. Rejects with a RowanError when it is refused. */
  receive(peer: string, record: Uint8Array): Promise<void>
}

const AGENT = 'rowan/1'

export class Greeting {
  readonly #peer: string
  readonly #records: RecordExchange | undefined
  readonly #log: Log
  #left: number | undefined
  #bytes = 0
  #receiving: Promise<void> = Promise.resolve()

  constructor(peer: string, records: RecordExchange | undefined, log: Log) {
    this.#peer = peer
    this.#records = records
    this.#log = log
  }

  /** Whether the other end has said HELLO. */
  get received(): boolean {
    return this.#left !== undefined
  }

  /** @param images - what the other end is wanted for as a replica */
  send(frames: FrameStream, images: readonly string[] = []): void {
    const chosen: Uint8Array[] = []
    let bytes = 0
    for (const record of this.#records?.offer(images) ?? []) {
      if (record.byteLength > MAX_RECORD_BYTES) continue
      if (chosen.length >= MAX_RECORDS_PER_GREETING || bytes + record.byteLength > MAX_GREETING_BYTES) break
      chosen.push(record)
      bytes += record.byteLength
    }
    frames.send(helloFrame(AGENT, chosen.length))
    for (const record of chosen) frames.send(encodeFrame(FRAME.record, 0, record))
  }

  /** @throws WIRE_INVALID for a second HELLO */
  hello(frame: Frame): void {
    if (this.#left !== undefined) throw new RowanError('WIRE_INVALID', 'a second HELLO')
    this.#left = readHello(frame).records
  }

  /** @throws WIRE_INVALID for more records than announced, or too many bytes of them */
  record(frame: Frame): void {
    this.#bytes += frame.body.byteLength
    if (!this.#left || this.#bytes > MAX_GREETING_BYTES) {
      throw new RowanError('WIRE_INVALID', 'more records than the greeting announced or may hold')
    }
    this.#left--
    const records = this.#records
    if (records === undefined) return
    this.#receiving = this.#receiving
      .then(() => records.receive(this.#peer, frame.body))
      .catch(cause => {
        const { code, message } = asRowanError(cause, 'RECORD_INVALID')
        this.#log.debug('a record from a greeting was refused', { peer: this.#peer, code, message })
      })
  }
}
