/**
 * The handshake of one client, as a machine of four states. Pure: bytes in, bytes and an outcome out.
 *
 *   flags ──> header ──> data ──> header … ──> serve (GO, EXPORT_NAME)
 *                ├─────> skip ──> header … ──> close (ABORT, a broken rule, too many options)
 *                └─────> startTls, then header … with the bytes that come out of TLS
 *
 * Each state waits for a piece of known length. One `step` finishes at most one piece, so that the caller can stop
 * reading from a client that does not take the answers.
 *
 * Where TLS is required, nothing but STARTTLS and ABORT is answered before it (FORCEDTLS of proto.md, "TLS support").
 */
import type { Exports } from './export.ts'
import { Gather } from './gather.ts'
import type { NbdLimits } from './limits.ts'
import { errorReply } from './option-replies.ts'
import { type Agreed, NOTHING_AGREED, OPTIONS, type OptionAnswer, type OptionContext } from './options.ts'
import { CLIENT_FLAGS_BYTES, HANDSHAKE_FLAG, OPTION, OPTION_HEADER_BYTES, OPTION_MAGIC, REPLY } from './protocol.ts'
import type { Session } from './session.ts'

export interface Step {
  /** Bytes of the chunk that were used. */
  taken: number
  replies: Buffer[]
  /** Transmission begins, with the bytes behind those taken. */
  serve?: Session
  /** TLS begins, now that the replies were sent; with nothing that came behind the bytes taken. */
  startTls?: true
  /** The connection is over: '' as the client wished, else the rule that it broke. */
  close?: string
}

type NegotiationLimits = Pick<NbdLimits, 'maxOptions' | 'maxOptionBytes' | 'maxSkippedOptionBytes' | 'maxListedExports'>

type State = 'flags' | 'header' | 'data' | 'skip'

export class Negotiation {
  readonly #exports: Exports
  readonly #limits: NegotiationLimits
  readonly #gather: Gather
  #state: State = 'flags'
  /** Bytes that the state waits for. */
  #awaited = CLIENT_FLAGS_BYTES
  #fixedNewstyle = false
  #noZeroes = false
  #option = 0
  #options = 0
  #tls: OptionContext['tls']
  #agreed: Readonly<Agreed> = NOTHING_AGREED

  constructor(components: { exports: Exports }, limits: NegotiationLimits, settings: { tls: boolean }) {
    this.#exports = components.exports
    this.#limits = limits
    this.#tls = settings.tls ? 'required' : 'none'
    this.#gather = new Gather(Math.max(OPTION_HEADER_BYTES, limits.maxOptionBytes))
  }

  /** Takes bytes of `chunk` from `position` on; at least one if there is any. */
  step(chunk: Buffer, position: number): Step {
    if (this.#state === 'skip') return this.#skip(chunk.length - position)
    const taken = this.#gather.take(chunk, position, this.#awaited)
    if (!this.#gather.whole) return { taken, replies: [] }
    return { taken, ...this.#next(this.#gather.piece) }
  }

  #next(piece: Buffer): OptionAnswer {
    if (this.#state === 'flags') return this.#clientFlags(piece)
    if (this.#state === 'header') return this.#header(piece)
    this.#await('header', OPTION_HEADER_BYTES)
    return this.#answer(piece)
  }

  #await(state: State, bytes: number): OptionAnswer {
    this.#state = state
    this.#awaited = bytes
    return { replies: [] }
  }

  #clientFlags(piece: Buffer): OptionAnswer {
    const flags = piece.readUInt32BE(0)
    if ((flags & ~(HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES)) !== 0) {
      return { replies: [], close: `unknown client flags 0x${flags.toString(16)}` }
    }
    this.#fixedNewstyle = (flags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) !== 0
    this.#noZeroes = (flags & HANDSHAKE_FLAG.NO_ZEROES) !== 0
    return this.#await('header', OPTION_HEADER_BYTES)
  }

  #header(piece: Buffer): OptionAnswer {
    if (piece.readBigUInt64BE(0) !== OPTION_MAGIC) return { replies: [], close: 'an option without its magic number' }
    this.#option = piece.readUInt32BE(8)
    const length = piece.readUInt32BE(12)
    if (++this.#options > this.#limits.maxOptions) {
      return { replies: [], close: `more than ${this.#limits.maxOptions} options` }
    }
    if (this.#tls === 'required' && this.#option === OPTION.EXPORT_NAME) {
      return { replies: [], close: 'EXPORT_NAME before TLS' }
    }
    if (!this.#fixedNewstyle && OPTIONS.get(this.#option)?.oldClients === undefined) {
      return { replies: [], close: `option ${this.#option} from a client that cannot read the reply` }
    }
    if (length <= this.#limits.maxOptionBytes) {
      if (length > 0) return this.#await('data', length)
      this.#await('header', OPTION_HEADER_BYTES)
      return this.#answer(Buffer.alloc(0))
    }
    if (length > this.#limits.maxSkippedOptionBytes || this.#option === OPTION.EXPORT_NAME) {
      return { replies: [], close: `an option with ${length} bytes of data` }
    }
    return this.#await('skip', length)
  }

  #skip(available: number): Step {
    const taken = Math.min(available, this.#awaited)
    this.#awaited -= taken
    if (this.#awaited > 0) return { taken, replies: [] }
    this.#await('header', OPTION_HEADER_BYTES)
    if (!OPTIONS.has(this.#option) || this.#needsTlsFirst) return { taken, ...this.#answer(Buffer.alloc(0)) }
    this.#forgetContexts()
    const text = `an option takes at most ${this.#limits.maxOptionBytes} bytes of data`
    return { taken, replies: [errorReply(this.#option, REPLY.ERR_TOO_BIG, text)] }
  }

  get #needsTlsFirst(): boolean {
    return this.#tls === 'required' && OPTIONS.get(this.#option)?.beforeTls !== true
  }

  #forgetContexts(): void {
    if (OPTIONS.get(this.#option)?.replacesContexts !== true) return
    this.#agreed = { ...this.#agreed, contexts: [], contextsOf: undefined }
  }

  #answer(data: Buffer): OptionAnswer {
    if (this.#needsTlsFirst) {
      return { replies: [errorReply(this.#option, REPLY.ERR_TLS_REQD, 'this socket needs STARTTLS first')] }
    }
    const rule = OPTIONS.get(this.#option)
    if (rule === undefined) {
      return { replies: [errorReply(this.#option, REPLY.ERR_UNSUP, `option ${this.#option} is not supported`)] }
    }
    this.#forgetContexts()
    const answer = rule.answer(this.#option, data, {
      exports: this.#exports,
      maxListedExports: this.#limits.maxListedExports,
      noZeroes: this.#noZeroes,
      tls: this.#tls,
      agreed: this.#agreed
    })
    if (answer.agreed !== undefined) this.#agreed = answer.agreed
    if (answer.startTls === true) this.#tls = 'on'
    return answer
  }
}
