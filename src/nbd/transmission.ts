/**
 * The transmission phase of one connection: requests in, the disk's answers out.
 *
 * A request goes through stages: its header is read; it is judged; it waits until there is room for it; a write's
 * payload is read; it runs. A disk that answers at once is answered for at once, in one batch with its neighbours; one
 * that answers with a promise is waited for, and its reply goes out when it comes, whatever came in between.
 *
 * Back-pressure: a connection whose requests in flight, bytes queued or buffers have reached a limit is not read until
 * something was finished or taken. A connection that keeps the disk busy lets the others have their turn.
 *
 * Owns: the reader and the writer. Does not own: the socket, which it pauses and resumes but never closes.
 */
import type { BlockDevice } from '../disk/block-device.ts'
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { BufferPool } from './buffer-pool.ts'
import { judge } from './commands.ts'
import { errnoOf } from './errno.ts'
import type { NbdLimits } from './limits.ts'
import { COMMAND, COMMAND_FLAG, MAX_PAYLOAD_BYTES, SIMPLE_REPLY_BYTES } from './protocol.ts'
import { type ReplySocket, ReplyWriter } from './reply-writer.ts'
import { type Payload, RequestReader } from './request-reader.ts'

/** A payload that is refused is passed over up to this length; beyond it, the connection ends. */
const MAX_SKIPPED_PAYLOAD_BYTES = 2 * MAX_PAYLOAD_BYTES

export interface TransmissionSocket extends ReplySocket {
  pause(): unknown
  resume(): unknown
}

type TransmissionLimits = Pick<
  NbdLimits,
  'maxRequestsInFlight' | 'maxQueuedBytes' | 'maxRequestsPerTurn' | 'maxBytesPerTurn'
>

type Stage = 'header' | 'room' | 'payload' | 'skip'

export class Transmission {
  readonly #socket: TransmissionSocket
  readonly #device: BlockDevice
  readonly #blockBytes: number
  readonly #buffers: BufferPool
  readonly #log: Log
  readonly #limits: TransmissionLimits
  readonly #onOver: (broken: string) => void
  readonly #onIdle: () => void
  readonly #reader: RequestReader
  readonly #replies: ReplyWriter

  #stage: Stage = 'header'
  /** What the request at hand is refused with, in stage `skip`. */
  #errno = 0
  #inFlight = 0
  /** Payloads of writes that the disk is at. */
  #writingBytes = 0
  /** Why the socket is paused: there is no room, or the others have their turn. */
  #pausedFor: 'nothing' | 'room' | 'turn' = 'nothing'
  #over = false
  #progress = 0
  /** Codes of failures that were logged: a broken disk says so once for each connection, not once for each request. */
  readonly #logged = new Set<string>()

  /**
   * @param components.blockBytes - what the client must keep to, see `judge`
   * @param components.onOver - called once when no more requests will be read: '' after DISC, else the rule that the
   *   client broke
   * @param components.onIdle - called whenever the last request in flight was finished
   */
  constructor(
    components: {
      socket: TransmissionSocket
      device: BlockDevice
      blockBytes: number
      buffers: BufferPool
      log: Log
      onOver: (broken: string) => void
      onIdle: () => void
    },
    limits: TransmissionLimits
  ) {
    this.#socket = components.socket
    this.#device = components.device
    this.#blockBytes = components.blockBytes
    this.#buffers = components.buffers
    this.#log = components.log
    this.#onOver = components.onOver
    this.#onIdle = components.onIdle
    this.#limits = limits
    this.#reader = new RequestReader({ buffers: components.buffers })
    this.#replies = new ReplyWriter({
      socket: components.socket,
      buffers: components.buffers,
      onTaken: () => {
        this.#progress += 1
        this.#continue()
      }
    })
  }

  /** Requests that the disk has not answered yet. */
  get inFlight(): number {
    return this.#inFlight
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

  /** Hands the socket what was answered last. */
  flush(): void {
    this.#replies.flush()
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
        if (this.#heldBytes >= this.#limits.maxQueuedBytes || this.#inFlight >= this.#limits.maxRequestsInFlight) {
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
        this.#refuse(this.#errno)
        continue
      }
      if (this.#stage === 'room') {
        if (!this.#hasRoom()) {
          this.#pause('room')
          break
        }
        this.#stage = 'payload'
      }
      bytes += this.#reader.length
      if (this.#reader.command === COMMAND.WRITE) {
        const payload = this.#reader.readPayload()
        if (payload === undefined) break
        this.#stage = 'header'
        this.#write(payload)
      } else {
        this.#stage = 'header'
        if (this.#reader.command === COMMAND.READ) this.#read()
        else this.#other()
      }
    }
    this.#replies.flush()
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
    this.#errno = judge(reader, this.#device, this.#blockBytes)
    if (this.#errno === 0) {
      this.#stage = 'room'
    } else if (reader.command !== COMMAND.WRITE) {
      this.#refuse(this.#errno)
    } else if (reader.length > MAX_SKIPPED_PAYLOAD_BYTES) {
      this.#end(`a payload of ${reader.length} bytes`)
      return false
    } else {
      this.#stage = 'skip'
    }
    return true
  }

  #refuse(errno: number): void {
    this.#stage = 'header'
    this.#replies.status(errno, this.#reader.cookieHigh, this.#reader.cookieLow)
  }

  get #heldBytes(): number {
    return this.#replies.queuedBytes + this.#writingBytes
  }

  /** Whether the request at hand may run now; if not, `#continue` is called when that may have changed. */
  #hasRoom(): boolean {
    const { command, length } = this.#reader
    const carries = command === COMMAND.READ || command === COMMAND.WRITE ? length : 0
    const held = this.#heldBytes
    if (held > 0 && held + carries > this.#limits.maxQueuedBytes) return false
    const needsBuffer = command === COMMAND.READ || (command === COMMAND.WRITE && this.#reader.payloadNeedsBuffer)
    if (needsBuffer && !this.#buffers.allows(SIMPLE_REPLY_BYTES + length, held)) {
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

  #read(): void {
    const { offset, length, cookieHigh, cookieLow } = this.#reader
    const replies = this.#replies
    if (length === 0) {
      replies.status(0, cookieHigh, cookieLow)
      return
    }
    const target = replies.place(length)
    const answer = this.#ask(COMMAND.READ, () => this.#device.read(offset, target))
    if (answer === 0) {
      replies.commit(length, cookieHigh, cookieLow)
    } else if (typeof answer === 'number') {
      replies.status(answer, cookieHigh, cookieLow)
    } else {
      const gap = replies.open(length)
      this.#wait(COMMAND.READ, answer, errno => replies.fill(gap, errno, cookieHigh, cookieLow))
    }
  }

  #write(payload: Payload): void {
    const { offset, length, cookieHigh, cookieLow, flags } = this.#reader
    const options = (flags & COMMAND_FLAG.FUA) === 0 ? undefined : { fua: true }
    const { data, pooled } = payload
    const answer = length === 0 ? 0 : this.#ask(COMMAND.WRITE, () => this.#device.write(offset, data, options))
    if (typeof answer === 'number') {
      if (pooled !== undefined) this.#buffers.give(pooled)
      this.#replies.status(answer, cookieHigh, cookieLow)
      return
    }
    this.#writingBytes += length
    this.#wait(COMMAND.WRITE, answer, errno => {
      this.#writingBytes -= length
      if (pooled !== undefined) this.#buffers.give(pooled)
      this.#lateStatus(errno, cookieHigh, cookieLow)
    })
  }

  /** FLUSH, TRIM and WRITE_ZEROES: no data in either direction. */
  #other(): void {
    const { command, offset, length, flags, cookieHigh, cookieLow } = this.#reader
    const fua = (flags & COMMAND_FLAG.FUA) !== 0
    const noHole = (flags & COMMAND_FLAG.NO_HOLE) !== 0
    const run = () => {
      if (command === COMMAND.FLUSH) return this.#device.flush()
      if (length === 0) return undefined
      if (command === COMMAND.TRIM) return this.#device.trim(offset, length, { fua })
      return this.#device.writeZeroes(offset, length, { fua, noHole })
    }
    const answer = this.#ask(command, run)
    if (typeof answer === 'number') this.#replies.status(answer, cookieHigh, cookieLow)
    else this.#wait(command, answer, errno => this.#lateStatus(errno, cookieHigh, cookieLow))
  }

  #lateStatus(errno: number, cookieHigh: number, cookieLow: number): void {
    this.#replies.status(errno, cookieHigh, cookieLow)
    this.#replies.flushSoon()
  }

  /** What the disk says at once: 0 done, an errno, or a promise to wait for. */
  #ask(command: number, run: () => void | Promise<void>): number | Promise<void> {
    try {
      return run() ?? 0
    } catch (error) {
      return this.#failure(error, command)
    }
  }

  #wait(command: number, answer: Promise<void>, done: (errno: number) => void): void {
    this.#inFlight += 1
    const finish = (errno: number) => {
      this.#inFlight -= 1
      done(errno)
      this.#continue()
      if (this.#inFlight === 0) this.#onIdle()
    }
    answer.then(
      () => finish(0),
      error => finish(this.#failure(error, command))
    )
  }

  #failure(error: unknown, command: number): number {
    const { code, message } = asRowanError(error, 'STORE_IO')
    if (!this.#logged.has(code)) {
      this.#logged.add(code)
      this.#log.warn('a request to a disk failed; later ones with this code are not logged', { code, message, command })
    }
    return errnoOf(error, command)
  }
}
