/**
 * Lays out the replies of one connection and sends them, many with one write.
 *
 * Replies are laid out one behind the other in a pooled buffer, a *sheet*: 16 bytes of header, then the data, which the
 * disk reads straight into its place. What is finished and adjoins forms a *run*, and a run is one write to the
 * socket. A reply that must wait for the disk leaves a gap: the run before it ends there, and the gap is sent by itself
 * when it is filled. A sheet goes back to the pool when it is full or idle, all its runs were taken by the system and
 * no gap is open.
 *
 * Owns: the sheets. Does not own: the socket, whose closing is the connection's matter.
 */
import type { BufferPool } from './buffer-pool.ts'
import { SMALL_BUFFER_BYTES } from './buffer-pool.ts'
import { SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC } from './protocol.ts'

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
}

export class ReplyWriter {
  /** Bytes laid out, promised to gaps, or not yet taken by the system. */
  queuedBytes = 0
  readonly #socket: ReplySocket
  readonly #buffers: BufferPool
  readonly #onTaken: () => void
  #sheet: Sheet | undefined
  #runStart = 0
  /** Filled gaps that were not handed to the socket yet. */
  #filled: { gap: Gap; end: number }[] = []
  #flushIsDue = false

  /** @param components.onTaken - called when the system took bytes, after `queuedBytes` went down */
  constructor(components: { socket: ReplySocket; buffers: BufferPool; onTaken: () => void }) {
    this.#socket = components.socket
    this.#buffers = components.buffers
    this.#onTaken = components.onTaken
  }

  /** A reply without data. */
  status(errno: number, cookieHigh: number, cookieLow: number): void {
    const sheet = this.#room(SIMPLE_REPLY_BYTES)
    writeHeader(sheet.buffer, sheet.used, errno, cookieHigh, cookieLow)
    sheet.used += SIMPLE_REPLY_BYTES
    this.queuedBytes += SIMPLE_REPLY_BYTES
  }

  /** The place for the data of a reply that follows: `commit` makes it one, `open` promises it for later. */
  place(dataBytes: number): Buffer {
    const sheet = this.#room(SIMPLE_REPLY_BYTES + dataBytes)
    const start = sheet.used + SIMPLE_REPLY_BYTES
    return sheet.buffer.subarray(start, start + dataBytes)
  }

  /** The data lies in its place; the reply joins the run. */
  commit(dataBytes: number, cookieHigh: number, cookieLow: number): void {
    const sheet = this.#sheet!
    writeHeader(sheet.buffer, sheet.used, 0, cookieHigh, cookieLow)
    sheet.used += SIMPLE_REPLY_BYTES + dataBytes
    this.queuedBytes += SIMPLE_REPLY_BYTES + dataBytes
    if (sheet.used - this.#runStart >= RUN_BYTES) this.#sendRun(sheet)
  }

  /** The data will lie in its place later: ends the run in front of it and keeps the place. */
  open(dataBytes: number): Gap {
    const sheet = this.#sheet!
    this.#sendRun(sheet)
    const gap = { sheet, start: sheet.used, dataBytes }
    sheet.used += SIMPLE_REPLY_BYTES + dataBytes
    sheet.holds += 1
    this.queuedBytes += SIMPLE_REPLY_BYTES + dataBytes
    this.#runStart = sheet.used
    return gap
  }

  /** The data of a gap is there, or (`errno` not 0) will never be. Sent soon, together with others. */
  fill(gap: Gap, errno: number, cookieHigh: number, cookieLow: number): void {
    writeHeader(gap.sheet.buffer, gap.start, errno, cookieHigh, cookieLow)
    const dataBytes = errno === 0 ? gap.dataBytes : 0
    this.queuedBytes -= gap.dataBytes - dataBytes
    this.#filled.push({ gap, end: gap.start + SIMPLE_REPLY_BYTES + dataBytes })
    this.flushSoon()
  }

  /** A gap that nobody waits for any more. */
  abandon(gap: Gap): void {
    this.queuedBytes -= SIMPLE_REPLY_BYTES + gap.dataBytes
    this.#unhold(gap.sheet)
  }

  /** Hands what is finished to the socket, once everything that happens at this moment has happened. */
  flushSoon(): void {
    if (this.#flushIsDue) return
    this.#flushIsDue = true
    queueMicrotask(() => {
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

function writeHeader(buffer: Buffer, at: number, errno: number, cookieHigh: number, cookieLow: number): void {
  buffer.writeUInt32BE(SIMPLE_REPLY_MAGIC, at)
  buffer.writeUInt32BE(errno, at + 4)
  buffer.writeUInt32BE(cookieHigh, at + 8)
  buffer.writeUInt32BE(cookieLow, at + 12)
}
