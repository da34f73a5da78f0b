/**
 * Lays out the replies of one connection and sends them, many with one write.
 *
 * Replies are laid out one behind the other in a pooled buffer, a *sheet*: a header (reply-format.ts), then the data,
 * which the disk reads straight into its place. What is finished and adjoins forms a *run*, and a run is one write to the
 * socket. A reply that must wait for the disk leaves a gap: the run before it ends there, and the gap is sent by itself
 * when it is filled. A sheet goes back to the pool when it is full or idle, all its runs were taken by the system and
 * no gap is open.
 *
 * Owns: the sheets. Does not own: the socket, whose closing is the connection's matter.
 */
import type { BufferPool } from './buffer-pool.ts'
import { SMALL_BUFFER_BYTES } from './buffer-pool.ts'
import { type ChunkFormat, type Failure, MAX_STATUS_BYTES, type ReplyFormat, type RequestId } from './reply-format.ts'

/** A run this long is sent at once: the client begins to take it while the next reply is being read. */
const RUN_BYTES = 64 * 1024

/** What the writer needs of a socket. */
export interface ReplySocket {
  write(bytes: Uint8Array, done: () => void): boolean
  cork(): void
  uncork(): void
}

interface Sheet {
  buffer: Buffer
  used: number
  /** Runs that the system has not taken yet, and gaps. */
  holds: number
}

/** The place of a reply whose data is not there yet. */
export interface Gap {
  sheet: Sheet
  start: number
  dataBytes: number
  /** What was kept free: the data with its header, and at least what an error needs. */
  roomBytes: number
}

export class ReplyWriter {
  /** Bytes laid out, promised to gaps, or not yet taken by the system. */
  queuedBytes = 0
  readonly #format: ReplyFormat
  readonly #socket: ReplySocket
  readonly #buffers: BufferPool
  readonly #onTaken: () => void
  #sheet: Sheet | undefined
  #runStart = 0
  /** Filled gaps that were not handed to the socket yet. */
  #filled: { gap: Gap; end: number }[] = []
  #flushIsDue = false

  /** @param components.onTaken - called when the system took bytes, after `queuedBytes` went down */
  constructor(components: { format: ReplyFormat; socket: ReplySocket; buffers: BufferPool; onTaken: () => void }) {
    this.#format = components.format
    this.#socket = components.socket
    this.#buffers = components.buffers
    this.#onTaken = components.onTaken
  }

  /** All is well, and the reply has no data. */
  done(request: RequestId): void {
    const sheet = this.#room(MAX_STATUS_BYTES)
    this.#laidOut(sheet, this.#format.done(sheet.buffer, sheet.used, request))
  }

  /** A request failed, or, where others may follow (`isLast` false), the part of it at `offset`. */
  fail(request: RequestId, failure: Failure, isLast = true, offset?: number): void {
    const sheet = this.#room(MAX_STATUS_BYTES)
    this.#laidOut(sheet, this.#format.error(sheet.buffer, sheet.used, request, failure, isLast, offset))
  }

  /** A part of a read that is all zeros: nothing but its length is sent. */
  hole(format: ChunkFormat, request: RequestId, offset: number, holeBytes: number, isLast: boolean): void {
    const sheet = this.#room(MAX_STATUS_BYTES)
    this.#laidOut(sheet, format.hole(sheet.buffer, sheet.used, request, offset, holeBytes, isLast))
  }

  /** A chunk whose payload is made by `fill`, in its place. */
  chunk(
    format: ChunkFormat,
    request: RequestId,
    type: number,
    payloadBytes: number,
    isLast: boolean,
    fill: (buffer: Buffer, at: number) => void
  ): void {
    const sheet = this.#room(MAX_STATUS_BYTES + payloadBytes)
    const headerBytes = format.header(sheet.buffer, sheet.used, request, type, payloadBytes, isLast)
    fill(sheet.buffer, sheet.used + headerBytes)
    this.#laidOut(sheet, headerBytes + payloadBytes)
  }

  /** The place for data that follows: `commit` makes it a reply (or a part of one), `open` promises it for later. */
  place(dataBytes: number): Buffer {
    const headerBytes = this.#format.dataHeaderBytes
    const sheet = this.#room(Math.max(headerBytes + dataBytes, MAX_STATUS_BYTES))
    const start = sheet.used + headerBytes
    return sheet.buffer.subarray(start, start + dataBytes)
  }

  /** The data lies in its place; the reply joins the run. */
  commit(request: RequestId, offset: number, dataBytes: number, isLast: boolean): void {
    const sheet = this.#sheet!
    const headerBytes = this.#format.data(sheet.buffer, sheet.used, request, offset, dataBytes, isLast)
    this.#laidOut(sheet, headerBytes + dataBytes)
    if (sheet.used - this.#runStart >= RUN_BYTES) this.#sendRun(sheet)
  }

  /** The data will lie in its place later: ends the run in front of it and keeps the place. */
  open(dataBytes: number): Gap {
    const sheet = this.#sheet!
    this.#sendRun(sheet)
    const roomBytes = Math.max(this.#format.dataHeaderBytes + dataBytes, MAX_STATUS_BYTES)
    const gap = { sheet, start: sheet.used, dataBytes, roomBytes }
    sheet.holds += 1
    this.#laidOut(sheet, roomBytes)
    this.#runStart = sheet.used
    return gap
  }

  /** The data of a gap, read from `offset`, is there. Sent soon, together with others. */
  fill(gap: Gap, request: RequestId, offset: number, isLast: boolean): void {
    const { sheet, start, dataBytes } = gap
    const headerBytes = this.#format.data(sheet.buffer, start, request, offset, dataBytes, isLast)
    this.#close(gap, headerBytes + dataBytes)
  }

  /** The data of a gap will never be there. The reply keeps its turn among the parts of its request. */
  failGap(gap: Gap, request: RequestId, failure: Failure, isLast: boolean, offset?: number): void {
    const { sheet, start } = gap
    this.#close(gap, this.#format.error(sheet.buffer, start, request, failure, isLast, offset))
  }

  #laidOut(sheet: Sheet, bytes: number): void {
    sheet.used += bytes
    this.queuedBytes += bytes
  }

  #close(gap: Gap, usedBytes: number): void {
    this.queuedBytes -= gap.roomBytes - usedBytes
    this.#filled.push({ gap, end: gap.start + usedBytes })
    this.flushSoon()
  }

  /** Hands what is finished to the socket, once everything that happens at this moment has happened. */
  flushSoon(): void {
    if (this.#flushIsDue) return
    this.#flushIsDue = true
    // Not a microtask: each answer that libuv brings has its own, and all of one turn are to leave together.
    setImmediate(() => {
      this.#flushIsDue = false
      this.flush()
    })
  }

  /** Hands what is finished to the socket. */
  flush(): void {
    const filled = this.#filled
    if (filled.length > 0) {
      this.#filled = []
      this.#socket.cork()
      if (this.#sheet !== undefined) this.#sendRun(this.#sheet)
      for (const { gap, end } of filled) this.#send(gap.sheet, gap.start, end)
      this.#socket.uncork()
    } else if (this.#sheet !== undefined) {
      this.#sendRun(this.#sheet)
    }
  }

  #sendRun(sheet: Sheet): void {
    if (sheet.used === this.#runStart) return
    const start = this.#runStart
    this.#runStart = sheet.used
    sheet.holds += 1
    this.#send(sheet, start, sheet.used)
  }

  /** Sends a part of a sheet that is held once for it. */
  #send(sheet: Sheet, start: number, end: number): void {
    this.#socket.write(sheet.buffer.subarray(start, end), () => {
      this.queuedBytes -= end - start
      this.#unhold(sheet)
      this.#onTaken()
    })
  }

  /** A sheet with `bytes` free behind what is laid out. */
  #room(bytes: number): Sheet {
    const sheet = this.#sheet
    if (sheet !== undefined) {
      if (sheet.buffer.length - sheet.used >= bytes) return sheet
      this.#sendRun(sheet)
      this.#sheet = undefined
      if (sheet.holds === 0) this.#buffers.give(sheet.buffer)
    }
    this.#runStart = 0
    this.#sheet = { buffer: this.#buffers.take(Math.max(bytes, SMALL_BUFFER_BYTES)), used: 0, holds: 0 }
    return this.#sheet
  }

  #unhold(sheet: Sheet): void {
    sheet.holds -= 1
    if (sheet.holds > 0) return
    if (sheet !== this.#sheet) this.#buffers.give(sheet.buffer)
    else if (sheet.used === this.#runStart) this.#giveUpSheet()
  }

  /** The current sheet is idle: an idle connection holds no memory. */
  #giveUpSheet(): void {
    const sheet = this.#sheet
    this.#sheet = undefined
    if (sheet !== undefined) this.#buffers.give(sheet.buffer)
  }
}
