/**
 * The transmission phase of one connection: requests in, the disk's answers out.
 *
 * A request goes through stages: its header is read; it is judged; it waits until there is room for it; its payload is
 * read; it runs (request-runner.ts). Replies to neighbours leave in one batch.
 *
 * Back-pressure: a connection whose requests in flight, bytes queued or buffers have reached a limit is not read until
 * something was finished or taken. A connection that keeps the disk busy lets the others have their turn.
 *
 * Owns: the reader, the writer, the runner. Does not own: the socket, which it pauses and resumes but never closes.
 */
import type { Log } from '../environment.ts'
import { maxStatusBytes, maxStatusPayloadBytes } from './block-status.ts'
import type { BufferPool } from './buffer-pool.ts'
import type { BusyPoll } from './busy-poll.ts'
import { type CommandContext, judge } from './commands.ts'
import type { NbdLimits } from './limits.ts'
import { COMMAND, ERRNO, MAX_PAYLOAD_BYTES } from './protocol.ts'
import { type Failure, MAX_STATUS_BYTES, REPLY_FORMATS } from './reply-format.ts'
import { type ReplySocket, ReplyWriter } from './reply-writer.ts'
import { RequestReader } from './request-reader.ts'
import { RequestRunner } from './request-runner.ts'

/** A payload that is refused is passed over up to this length; beyond it, the connection ends. */
const MAX_SKIPPED_PAYLOAD_BYTES = 2 * MAX_PAYLOAD_BYTES

const LONG_STATUS_PAYLOAD: Failure = {
  errno: ERRNO.EINVAL,
  text: 'the payload names more metadata contexts than were selected'
}

/** The payload of a write of nothing. */
const NOTHING = { data: Buffer.alloc(0), pooled: undefined }

export interface TransmissionSocket extends ReplySocket {
  pause(): unknown
  resume(): unknown
}

/** What BusyPoll hears of a client. */
export type LoneClientPoll = Pick<BusyPoll, 'answered' | 'arrived' | 'crowded'>

type TransmissionLimits = Pick<
  NbdLimits,
  'maxRequestsInFlight' | 'maxQueuedBytes' | 'maxRequestsPerTurn' | 'maxBytesPerTurn'
>

type Stage = 'header' | 'room' | 'payload' | 'skip'

export class Transmission {
  readonly #socket: TransmissionSocket
  readonly #context: CommandContext
  readonly #buffers: BufferPool
  readonly #poll: LoneClientPoll | undefined
  readonly #limits: TransmissionLimits
  readonly #onOver: (broken: string) => void
  readonly #onIdle: () => void
  readonly #reader: RequestReader
  readonly #replies: ReplyWriter
  readonly #runner: RequestRunner
  /** The longest answer to BLOCK_STATUS. */
  readonly #statusBytes: number

  #stage: Stage = 'header'
  /** What the request at hand is refused with, in stage `skip`. */
  #refusal: Failure | undefined
  /** Why the socket is paused: there is no room, or the others have their turn. */
  #pausedFor: 'nothing' | 'room' | 'turn' = 'nothing'
  #over = false
  /** No reply may leave any more: the disk could not settle what they say. */
  #isMute = false
  #progress = 0

  /**
   * @param context - the disk, and what the client agreed on
   * @param components.onOver - called once when no more requests will be read: '' after DISC, else the rule that the
   *   client broke
   * @param components.onIdle - called whenever the last request in flight was finished
   */
  constructor(
    context: CommandContext,
    components: {
      socket: TransmissionSocket
      buffers: BufferPool
      /** Keeps the thread awake for a client that asks for one thing after the other. */
      poll?: LoneClientPoll
      log: Log
      onOver: (broken: string) => void
      onIdle: () => void
    },
    limits: TransmissionLimits
  ) {
    const { socket, buffers, log } = components
    const { mode } = context.session
    this.#context = context
    this.#socket = socket
    this.#buffers = buffers
    this.#poll = components.poll
    this.#onOver = components.onOver
    this.#onIdle = components.onIdle
    this.#limits = limits
    this.#statusBytes = maxStatusBytes(context.session.contexts)
    this.#reader = new RequestReader({ buffers }, { extended: mode === 'extended' })
    const onTaken = () => {
      this.#progress += 1
      this.#continue()
    }
    this.#replies = new ReplyWriter({
      format: REPLY_FORMATS[mode],
      socket: this.#settledSocket(socket),
      buffers,
      onTaken
    })
    const onFinished = () => {
      this.#continue()
      if (this.#runner.inFlight === 0) this.#onIdle()
    }
    this.#runner = new RequestRunner({ ...context, buffers, replies: this.#replies, log, onFinished })
  }

  /** Requests that the disk has not answered yet. */
  get inFlight(): number {
    return this.#runner.inFlight
  }

  /** Changes whenever the client sends something or takes replies. */
  get progress(): number {
    return this.#progress
  }

  /** A payload is being put together. */
  get isCollecting(): boolean {
    return this.#reader.isCollecting
  }

  /** No more requests will be read. */
  get isOver(): boolean {
    return this.#over
  }

  /** Takes what the client sent. The chunk is kept until it is used up, and must not be written to. */
  receive(chunk: Buffer, position = 0): void {
    if (this.#over) return
    this.#progress += 1
    this.#poll?.arrived()
    this.#reader.push(chunk, position)
    this.#run()
  }

  /** Reads no more requests. Those in flight go on, and their replies are sent. */
  stopReading(): void {
    if (this.#over) return
    this.#over = true
    this.#buffers.stopWaiting(this.#continue)
    this.#reader.release()
    this.#replies.flush()
  }

  /** The client is gone. What it changed goes on. */
  abandon(): void {
    this.stopReading()
    this.#runner.abandon()
  }

  /** Hands the socket what was answered last. */
  flush(): void {
    this.#replies.flush()
  }

  /** A client hears of no change that the disk has not settled; where that fails, it hears nothing more at all. */
  #settledSocket(socket: ReplySocket): ReplySocket {
    return {
      cork: () => socket.cork(),
      uncork: () => socket.uncork(),
      write: (bytes, done) => {
        if (!this.#isMute) this.#settle()
        if (!this.#isMute) return socket.write(bytes, done)
        queueMicrotask(done)
        return true
      }
    }
  }

  #settle(): void {
    try {
      this.#context.device.settle?.()
    } catch (error) {
      this.#isMute = true
      this.#runner.note(error, COMMAND.WRITE)
      queueMicrotask(() => this.#end('nothing, its changes could not be noted'))
    }
  }

  #end(broken: string): void {
    this.stopReading()
    this.#onOver(broken)
  }

  #run(): void {
    const { maxRequestsPerTurn, maxBytesPerTurn } = this.#limits
    let requests = 0
    let bytes = 0
    while (!this.#over) {
      if (this.#stage === 'header') {
        if (requests >= maxRequestsPerTurn || bytes >= maxBytesPerTurn) {
          this.#pause('turn')
          setImmediate(this.#nextTurn)
          break
        }
        if (!this.#mayReadOn()) {
          this.#pause('room')
          break
        }
        if (!this.#reader.readHeader()) break
        requests += 1
        if (!this.#begin()) return
        if (this.#stage === 'header') continue
      }
      if (this.#stage === 'skip') {
        if (!this.#reader.skipPayload()) break
        this.#refuse(this.#refusal!)
        continue
      }
      if (this.#stage === 'room') {
        if (!this.#hasRoom()) {
          this.#pause('room')
          break
        }
        this.#stage = 'payload'
      }
      bytes += this.#carriedBytes
      const payload = this.#reader.payloadBytes > 0 ? this.#reader.readPayload() : undefined
      if (payload === undefined && this.#reader.payloadBytes > 0) break
      this.#stage = 'header'
      if (this.#reader.command === COMMAND.WRITE) this.#runner.write(this.#reader, payload ?? NOTHING)
      else this.#runner.run(this.#reader, payload)
    }
    this.#replies.flush()
    if (requests === 1 && this.#stage === 'header' && this.#runner.inFlight === 0) this.#poll?.answered()
    else this.#poll?.crowded()
  }

  /** Decides what becomes of the request whose header was read; false when the connection is over. */
  #begin(): boolean {
    const reader = this.#reader
    if (!reader.magicIsRight) {
      this.#end('a request without its magic number')
      return false
    }
    if (reader.command === COMMAND.DISC) {
      this.#end('')
      return false
    }
    const refusal = judge(reader, this.#context) ?? this.#judgePayload()
    if (refusal === undefined) {
      this.#stage = 'room'
    } else if (reader.payloadBytes === 0) {
      this.#refuse(refusal)
    } else if (reader.payloadBytes > this.#maxSkippedBytes) {
      this.#end(`a payload of ${reader.payloadBytes} bytes`)
      return false
    } else {
      this.#refusal = refusal
      this.#stage = 'skip'
    }
    return true
  }

  /** A payload that cannot be right is not even put together. */
  #judgePayload(): Failure | undefined {
    const { command, payloadBytes } = this.#reader
    if (command !== COMMAND.BLOCK_STATUS) return undefined
    return payloadBytes > maxStatusPayloadBytes(this.#context.session.contexts) ? LONG_STATUS_PAYLOAD : undefined
  }

  /** The extension asks to cut off whoever sends more than the largest payload; before it, there was some leeway. */
  get #maxSkippedBytes(): number {
    return this.#context.session.mode === 'extended' ? MAX_PAYLOAD_BYTES : MAX_SKIPPED_PAYLOAD_BYTES
  }

  #refuse(refusal: Failure): void {
    this.#stage = 'header'
    this.#replies.fail(this.#reader, refusal)
  }

  get #heldBytes(): number {
    return this.#replies.queuedBytes + this.#runner.writingBytes
  }

  /** Whether there is room for the shortest reply; if not, `#continue` is called when that may have changed. */
  #mayReadOn(): boolean {
    const held = this.#heldBytes
    const { maxQueuedBytes, maxRequestsInFlight } = this.#limits
    if (held >= maxQueuedBytes || this.#runner.inFlight >= maxRequestsInFlight) return false
    if (this.#buffers.allows(MAX_STATUS_BYTES, held)) return true
    this.#buffers.wait(this.#continue)
    return false
  }

  /** Data of the request at hand, in either direction. */
  get #carriedBytes(): number {
    const { command, length, payloadBytes } = this.#reader
    if (command === COMMAND.READ) return length
    return command === COMMAND.BLOCK_STATUS ? this.#statusBytes : payloadBytes
  }

  /** Whether the request at hand may run now; if not, `#continue` is called when that may have changed. */
  #hasRoom(): boolean {
    const { command, payloadBytes } = this.#reader
    const carries = this.#carriedBytes
    const held = this.#heldBytes
    if (held > 0 && held + carries > this.#limits.maxQueuedBytes) return false
    const answersAtLength = command === COMMAND.READ || command === COMMAND.BLOCK_STATUS
    const needsBuffer = answersAtLength || (payloadBytes > 0 && this.#reader.payloadNeedsBuffer)
    if (needsBuffer && !this.#buffers.allows(MAX_STATUS_BYTES + carries, held)) {
      this.#buffers.wait(this.#continue)
      return false
    }
    return true
  }

  #pause(reason: 'room' | 'turn'): void {
    this.#pausedFor = reason
    this.#socket.pause()
  }

  /** There may be room again. Harmless when there was all the time, or is not yet. */
  readonly #continue = (): void => {
    if (this.#pausedFor === 'room') this.#goOn()
  }

  readonly #nextTurn = (): void => {
    if (this.#pausedFor === 'turn') this.#goOn()
  }

  #goOn(): void {
    if (this.#over) return
    this.#pausedFor = 'nothing'
    this.#run()
    if (this.#pausedFor === 'nothing') this.#socket.resume()
  }
}
