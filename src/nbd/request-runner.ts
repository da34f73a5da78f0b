/**
 * Runs the requests of one connection against its disk, and has their replies laid out.
 *
 * A request has been judged and has room when it comes here. A disk that answers at once is answered for at once; one
 * that answers with a promise is waited for, and the reply goes out when it comes, whatever came in between.
 *
 * Owns: what is in flight. Does not own: the reader, the writer, the disk.
 */
import type { BlockDevice, Extent } from '../disk/block-device.ts'
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { answerStatus, decodeStatusPayload } from './block-status.ts'
import type { BufferPool } from './buffer-pool.ts'
import { judgeRange } from './commands.ts'
import { failureOf } from './errno.ts'
import { COMMAND, COMMAND_FLAG, ERRNO } from './protocol.ts'
import { type ChunkFormat, chunkFormat, type Failure, type RequestId } from './reply-format.ts'
import type { Gap, ReplyWriter } from './reply-writer.ts'
import type { Payload, RequestReader } from './request-reader.ts'
import type { Session } from './session.ts'
import { MAX_READ_PIECES, type ReadPiece, readPieces } from './sparse-read.ts'

/** Effects without data are made in parts of this length: a request for 8 TiB is not one step of the disk. */
const MAX_EFFECT_BYTES = 1024 ** 3

const WRONG_STATUS_PAYLOAD: Failure = {
  errno: ERRNO.EINVAL,
  text: 'the payload must be a length and metadata contexts that were selected, each once'
}
const NO_LENGTH: Failure = { errno: ERRNO.EINVAL, text: 'a status of no bytes is none' }

/** What a request ends with: undefined is well. */
type Outcome = Failure | undefined

interface RunnerComponents {
  device: BlockDevice
  session: Pick<Session, 'mode' | 'contexts'>
  /** See CommandContext. */
  blockBytes: number
  buffers: BufferPool
  replies: ReplyWriter
  log: Log
  /** Called when a request in flight was finished. */
  onFinished: () => void
}

export class RequestRunner {
  /** Answers of the disk that are waited for. */
  inFlight = 0
  /** Payloads of writes that the disk is at. */
  writingBytes = 0
  readonly #components: RunnerComponents
  readonly #device: BlockDevice
  readonly #replies: ReplyWriter
  readonly #chunks: ChunkFormat | undefined
  /** What only this client wants, and nobody once it is gone. */
  readonly #gone = new AbortController()
  /** Codes of failures that were logged: a broken disk says so once for each connection, not once for each request. */
  readonly #logged = new Set<string>()

  constructor(components: RunnerComponents) {
    this.#components = components
    this.#device = components.device
    this.#replies = components.replies
    this.#chunks = chunkFormat(components.session.mode)
  }

  /** Runs the request at hand, which has no payload or, with BLOCK_STATUS, has it in `payload`. */
  run(request: RequestReader, payload: Payload | undefined): void {
    const { command } = request
    if (command === COMMAND.READ) this.#read(request)
    else if (command === COMMAND.BLOCK_STATUS) this.#status(request, payload)
    else this.#effect(request)
  }

  /** The client is gone: what would be fetched ahead for it is not. */
  abandon(): void {
    this.#gone.abort()
  }

  write(request: RequestReader, payload: Payload): void {
    const { offset, length, flags } = request
    const options = (flags & COMMAND_FLAG.FUA) === 0 ? undefined : { fua: true, alone: this.#isAlone(request) }
    const { data, pooled } = payload
    const { buffers } = this.#components
    const answer = length === 0 ? undefined : this.#ask(request, () => this.#device.write(offset, data, options))
    if (!(answer instanceof Promise)) {
      if (pooled !== undefined) buffers.give(pooled)
      this.#answer(request, answer)
      return
    }
    const { id } = request
    this.writingBytes += length
    this.#wait(answer, outcome => {
      this.writingBytes -= length
      if (pooled !== undefined) buffers.give(pooled)
      this.#lateAnswer(id, outcome)
    })
  }

  #read(request: RequestReader): void {
    const { offset, length } = request
    if (length === 0) {
      this.#replies.done(request)
      return
    }
    const chunks = this.#chunks
    const pieces = chunks === undefined ? undefined : this.#pieces(request)
    if (chunks !== undefined && pieces !== undefined) {
      this.#readPieces(chunks, request, pieces)
      return
    }
    const answer = this.#readInPlace(request, offset, length)
    if (answer === undefined) {
      this.#replies.commit(request, offset, length, true)
    } else if (answer instanceof Promise) {
      const gap = this.#replies.open(length)
      const { id } = request
      this.#wait(answer, failure => this.#close(gap, id, offset, true, failure))
    } else {
      this.#replies.fail(request, answer)
    }
  }

  /** How the read at hand is cut, where parts of it are known to be zeros. DF forbids more than one part. */
  #pieces({ command, offset, length, flags }: RequestReader): ReadPiece[] | undefined {
    const isWhole = (flags & COMMAND_FLAG.DF) !== 0
    let extents: Extent[]
    try {
      if (this.#device.mayBeZero?.(offset, length) === false) return undefined
      extents = this.#device.extents(offset, length, isWhole ? 1 : MAX_READ_PIECES)
    } catch (error) {
      // It is only a short cut; if something is wrong, the read will say so.
      this.note(error, command)
      return undefined
    }
    const pieces = readPieces(extents, offset, length)
    return isWhole && pieces?.length !== 1 ? undefined : pieces
  }

  /** Whichever part is finished last ends the reply. */
  #readPieces(chunks: ChunkFormat, request: RequestReader, pieces: ReadPiece[]): void {
    const { id } = request
    let pending = 0
    for (const [index, { offset, lengthBytes, isHole }] of pieces.entries()) {
      const endsReply = () => pending === 0 && index === pieces.length - 1
      if (isHole) {
        this.#replies.hole(chunks, request, offset, lengthBytes, endsReply())
        continue
      }
      const answer = this.#readInPlace(request, offset, lengthBytes)
      if (answer === undefined) {
        this.#replies.commit(request, offset, lengthBytes, endsReply())
      } else if (answer instanceof Promise) {
        const gap = this.#replies.open(lengthBytes)
        pending += 1
        this.#wait(answer, failure => {
          pending -= 1
          this.#close(gap, id, offset, pending === 0, failure, offset)
        })
      } else {
        this.#replies.fail(request, answer, endsReply(), offset)
      }
    }
  }

  #readInPlace(request: RequestReader, offset: number, lengthBytes: number): Outcome | Promise<Outcome> {
    const target = this.#replies.place(lengthBytes)
    return this.#ask(request, () => this.#device.read(offset, target))
  }

  #close(gap: Gap, id: RequestId, offset: number, isLast: boolean, failure: Outcome, failedAt?: number): void {
    if (failure === undefined) this.#replies.fill(gap, id, offset, isLast)
    else this.#replies.failGap(gap, id, failure, isLast, failedAt)
  }

  #status(request: RequestReader, payload: Payload | undefined): void {
    const { session, buffers } = this.#components
    const { offset, flags } = request
    const onlyOne = (flags & COMMAND_FLAG.REQ_ONE) !== 0
    const asked =
      payload === undefined
        ? { lengthBytes: request.length, contexts: session.contexts }
        : decodeStatusPayload(payload.data, session.contexts)
    if (payload?.pooled !== undefined) buffers.give(payload.pooled)
    if (asked === undefined) {
      this.#replies.fail(request, WRONG_STATUS_PAYLOAD)
      return
    }
    const refusal =
      asked.lengthBytes === 0
        ? NO_LENGTH
        : judgeRange(COMMAND.BLOCK_STATUS, offset, asked.lengthBytes, this.#components)
    const failure =
      refusal ??
      this.#ask(request, () =>
        answerStatus(
          this.#device,
          { offset, onlyOne, ...asked },
          request,
          this.#replies,
          this.#chunks!,
          session.mode === 'extended'
        )
      )
    if (failure !== undefined) this.#replies.fail(request, failure as Failure)
  }

  /** FLUSH, TRIM, WRITE_ZEROES and CACHE: no data in either direction. */
  #effect(request: RequestReader): void {
    const answer = this.#ask(request, () => this.#make(request))
    if (answer instanceof Promise) {
      const { id } = request
      this.#wait(answer, outcome => this.#lateAnswer(id, outcome))
    } else {
      this.#answer(request, answer)
    }
  }

  #make(request: RequestReader): void | Promise<void> {
    const { command, offset, length, flags } = request
    if (command === COMMAND.FLUSH) return this.#device.flush({ alone: this.#isAlone(request) })
    if (length === 0) return
    if (command === COMMAND.CACHE) return this.#device.cache(offset, length, { signal: this.#gone.signal })
    const fua = (flags & COMMAND_FLAG.FUA) !== 0
    const noHole = (flags & COMMAND_FLAG.NO_HOLE) !== 0
    const fast = (flags & COMMAND_FLAG.FAST_ZERO) !== 0
    const change = (at: number, bytes: number, options: { fua: boolean }) =>
      command === COMMAND.TRIM
        ? this.#device.trim(at, bytes, options)
        : this.#device.writeZeroes(at, bytes, { ...options, noHole, fast })
    if (length <= MAX_EFFECT_BYTES) return change(offset, length, { fua })
    // FUA is for the range of its call alone; one flush at the end is for all parts.
    const parts = inParts(offset, length, (at, bytes) => change(at, bytes, { fua: false }))
    return fua ? parts.then(() => this.#device.flush()) : parts
  }

  /** Nothing that has come from this client waits beside the request at hand. */
  #isAlone(request: RequestReader): boolean {
    return this.inFlight === 0 && request.exhausted
  }

  /** What the disk says at once, or a promise to wait for, which never rejects. */
  #ask({ command }: RequestId, run: () => void | Promise<void>): Outcome | Promise<Outcome> {
    try {
      const answer = run()
      if (answer === undefined) return undefined
      return answer.then(
        () => undefined,
        error => this.#failure(error, command)
      )
    } catch (error) {
      return this.#failure(error, command)
    }
  }

  #wait(answer: Promise<Outcome>, done: (outcome: Outcome) => void): void {
    this.inFlight += 1
    answer.then(outcome => {
      this.inFlight -= 1
      done(outcome)
      this.#components.onFinished()
    })
  }

  #answer(request: RequestId, outcome: Outcome): void {
    if (outcome === undefined) this.#replies.done(request)
    else this.#replies.fail(request, outcome)
  }

  #lateAnswer(request: RequestId, outcome: Outcome): void {
    this.#answer(request, outcome)
    this.#replies.flushSoon()
  }

  #failure(error: unknown, command: number): Failure {
    this.note(error, command)
    return failureOf(error, command)
  }

  /** Logs a failure of the disk, once for each code. */
  note(error: unknown, command: number): void {
    const { code, message } = asRowanError(error, 'STORE_IO')
    if (code === 'NOT_FAST' || this.#gone.signal.aborted || this.#logged.has(code)) return
    this.#logged.add(code)
    const says = 'a request to a disk failed; later ones with this code are not logged'
    this.#components.log.warn(says, { code, message, command })
  }
}

/** One part after the other, each in its own turn of the event loop. */
async function inParts(
  offset: number,
  lengthBytes: number,
  part: (at: number, bytes: number) => void | Promise<void>
): Promise<void> {
  const end = offset + lengthBytes
  for (let at = offset; at < end; at += MAX_EFFECT_BYTES) {
    const bytes = Math.min(MAX_EFFECT_BYTES, end - at)
    await part(at, bytes)
    await new Promise(resolve => setImmediate(resolve))
  }
}
