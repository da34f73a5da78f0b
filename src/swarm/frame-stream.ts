/**
 * Frames over one libp2p stream, both ways, with back-pressure both ways.
 *
 * Reading: `message` events go through the parser; while a handler's promise is pending the stream is paused, so the muxer's window
 * holds the other end back. (`for await` over a stream has no back-pressure at all, and `byteStream` and its kin never pause.)
 * Writing: control frames always go out, bulk only while `writable`. A requester that does not read its answers is not read
 * either (never the other way round, or both could wait for each other), and where frames pile up all the same the stream is
 * ended. A buffer given to `send` belongs to the stream from then on.
 *
 * A heap of frames is handled a few at a time: to inflate, hash and store all that a fast line brings at once would keep everything
 * else in this process waiting (100 ms were seen).
 *
 * Owns: the stream; it is closed when this ends, for whatever reason, and `onEnd` is called once.
 */

import type { Stream } from '@libp2p/interface'
import { asRowanError, RowanError } from '../errors.ts'
import type { BlockBuffers } from './block-buffers.ts'
import { FrameParser } from './frame-parser.ts'
import type { Frame, Role } from './frames.ts'
import { MAX_UNREAD_BYTES, MAX_UNSENT_BYTES, MAX_UNSENT_CONTROL_BYTES } from './limits.ts'
import { problemFrame } from './messages.ts'

/** Frames of one stream that are handled before others get a turn: about 4 ms of blocks. */
const FRAMES_AT_A_STRETCH = 16

export interface FrameHandlers {
  /** One frame at a time; a promise holds back what comes behind it. Throwing ends the stream with that error. */
  onFrame(frame: Frame): void | Promise<void>
  /** Some bytes came, be it part of a frame. */
  onBytes?(): void
  /** Bulk may be sent again. */
  onWritable?(): void
  /** The last call. `error` is undefined after an orderly end. */
  onEnd(error: RowanError | undefined): void
}

/** After whatever else waits to run in this process. */
function othersTurn(): Promise<void> {
  return new Promise(resolve => void setImmediate(resolve))
}

/** What is needed of a libp2p stream. */
export type FrameCarrier = Pick<
  Stream,
  | 'send'
  | 'pause'
  | 'resume'
  | 'abort'
  | 'close'
  | 'addEventListener'
  | 'writableNeedsDrain'
  | 'writeBufferLength'
  | 'readStatus'
  | 'writeStatus'
  | 'maxReadBufferLength'
>

export class FrameStream {
  readonly #stream: FrameCarrier
  readonly #from: Role
  readonly #handlers: FrameHandlers
  readonly #parser: FrameParser
  #busy = false
  /** Since others had a turn. */
  #handled = 0
  #ended = false
  #drain: (() => void) | undefined

  /**
   * @param from - the role of the other end
   * @param buffers - where raw blocks are put
   */
  constructor(stream: FrameCarrier, from: Role, handlers: FrameHandlers, buffers?: BlockBuffers) {
    this.#stream = stream
    this.#from = from
    this.#handlers = handlers
    this.#parser = new FrameParser(from, buffers)
    stream.maxReadBufferLength = MAX_UNREAD_BYTES
    stream.addEventListener('message', event => this.#received(event.data))
    // After the stream's own listener, which sends what it still holds.
    stream.addEventListener('drain', () => queueMicrotask(() => this.#drained()))
    stream.addEventListener('remoteCloseWrite', () => this.#finish(undefined))
    stream.addEventListener('close', event => {
      const error = event.error
      this.#finish(error == null ? undefined : asRowanError(error, 'PEER_GONE', 'the stream ended'))
    })
  }

  get ended(): boolean {
    return this.#ended
  }

  /** Whether bulk may be sent: the muxer took all that it was given. */
  get writable(): boolean {
    return !this.#ended && !this.#stream.writableNeedsDrain
  }

  /** Bytes that the muxer did not take yet. */
  get unsentBytes(): number {
    return this.#stream.writeBufferLength
  }

  /** Whether frames are held back because a handler is not done with the one before. */
  get paused(): boolean {
    return this.#busy
  }

  /** Sends a frame; does nothing after the end. */
  send(frame: Uint8Array): void {
    if (this.#ended) return
    try {
      this.#stream.send(frame)
    } catch (error) {
      this.end(asRowanError(error, 'PEER_GONE', 'cannot send'))
      return
    }
    if (this.unsentBytes > MAX_UNSENT_CONTROL_BYTES) {
      const message = `${this.unsentBytes} bytes wait for a peer that does not read; ${MAX_UNSENT_CONTROL_BYTES} are the limit`
      this.end(new RowanError('LIMIT_EXCEEDED', message))
    }
  }

  /** Ends the stream: in order, or, with an error, by telling the other end and resetting. */
  end(error?: RowanError): void {
    if (this.#ended) return
    if (error !== undefined && this.#stream.writeStatus === 'writable') {
      this.#ended = true
      try {
        this.#stream.send(problemFrame(error.code, error.message))
      } catch {
        // It is gone already, which the reset below says as well.
      }
      this.#ended = false
    }
    this.#finish(error)
  }

  #received(data: Uint8Array | Iterable<Uint8Array>): void {
    if (this.#ended) return
    if (data instanceof Uint8Array) this.#parser.push(data)
    else for (const piece of data) this.#parser.push(piece)
    this.#handlers.onBytes?.()
    this.#handleFrames()
  }

  #handleFrames(): void {
    try {
      while (!this.#busy && !this.#ended) {
        if (this.#handled >= FRAMES_AT_A_STRETCH) {
          this.#handled = 0
          this.#hold(othersTurn())
          break
        }
        const frame = this.#parser.next()
        if (frame === undefined) break
        this.#handled++
        const pending = this.#handlers.onFrame(frame)
        if (pending !== undefined) this.#hold(pending)
        else if (this.#from === 'requester' && this.unsentBytes > MAX_UNSENT_BYTES) this.#hold(this.#drains())
      }
    } catch (error) {
      this.end(asRowanError(error, 'INTERNAL', 'a frame could not be handled'))
    }
  }

  #hold(pending: Promise<void>): void {
    this.#busy = true
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
    pending.then(
      () => {
        this.#busy = false
        this.#handleFrames()
        if (!this.#busy && !this.#ended && this.#stream.readStatus === 'paused') this.#stream.resume()
      },
      error => this.end(asRowanError(error, 'INTERNAL', 'a frame could not be handled'))
    )
  }

  #drains(): Promise<void> {
    return new Promise(resolve => {
      this.#drain = resolve
    })
  }

  #drained(): void {
    if (!this.writable) return
    this.#drain?.()
    this.#drain = undefined
    this.#handlers.onWritable?.()
  }

  #finish(error: RowanError | undefined): void {
    if (this.#ended) return
    this.#ended = true
    if (error !== undefined) this.#stream.abort(error)
    else if (this.#stream.writableNeedsDrain) {
      // Closing in order would wait for the other end to read, which it may never do.
      this.#stream.abort(new RowanError('PEER_GONE', 'the stream ended with bytes unsent'))
    } else {
      this.#stream
        .close()
        .catch(cause => this.#stream.abort(asRowanError(cause, 'PEER_GONE', 'the stream did not close')))
    }
    this.#handlers.onEnd(error)
  }
}
