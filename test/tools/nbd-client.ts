/**
 * A raw NBD client for tests: says what it is told, also what no honest client would say.
 *
 * The negotiation is a dialogue (`option` returns the replies up to the final one). In transmission, `request` sends
 * and resolves with the reply to its cookie, so that many can be in flight; `send` sends any bytes at all.
 */
import { createConnection, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import {
  CHUNK,
  CHUNK_DONE,
  COMMAND,
  COMMAND_FLAG,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST_MAGIC,
  HANDSHAKE_FLAG,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REPLY,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC
} from '../../src/nbd/protocol.ts'
import type { ReplyMode } from '../../src/nbd/session.ts'

const BOTH_FLAGS = HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES
/** No answer takes longer in a test, unless it says so. */
const ANSWER_TIMEOUT_MS = 60_000

export interface OptionReply {
  option: number
  type: number
  data: Buffer
}

export interface Reply {
  errno: number
  data: Buffer
  /** Where replies have chunks: all of them, as they came. */
  chunks?: Chunk[]
}

export interface Chunk {
  type: number
  isLast: boolean
  payload: Buffer
}

/** One part of an answer to BLOCK_STATUS: length and flags. */
export type Status = [lengthBytes: number, flags: number]

export interface RequestSpec {
  offset?: number | bigint
  length?: number | bigint | undefined
  flags?: number
  data?: Uint8Array
  cookie?: bigint
  magic?: number
}

interface Waiting {
  bytes: number
  offset: bigint
  chunks: Chunk[]
  resolve: (reply: Reply) => void
  reject: (error: Error) => void
}

export function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function uint64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

/** The bytes of an option; `length` can be made to lie. */
export function optionBytes(option: number, data: Uint8Array = new Uint8Array(), length = data.length): Buffer {
  return Buffer.concat([uint64(OPTION_MAGIC), uint32(option), uint32(length), data])
}

/** The data of INFO and GO. */
export function infoData(name: string | Uint8Array, requests: number[] = [INFO.BLOCK_SIZE]): Buffer {
  const encoded = Buffer.from(name as string)
  return Buffer.concat([uint32(encoded.length), encoded, uint16(requests.length), ...requests.map(uint16)])
}

export function requestBytes(command: number, cookie: bigint, spec: RequestSpec = {}): Buffer {
  const data = spec.data ?? new Uint8Array()
  return Buffer.concat([
    uint32(spec.magic ?? REQUEST_MAGIC),
    uint16(spec.flags ?? 0),
    uint16(command),
    uint64(cookie),
    uint64(spec.offset ?? 0),
    uint32(Number(spec.length ?? data.length)),
    data
  ])
}

/** The same in the form of extended headers; where there is data, PAYLOAD_LEN says so. */
export function extendedRequestBytes(command: number, cookie: bigint, spec: RequestSpec) {
  const data = spec.data ?? new Uint8Array()
  return Buffer.concat([
    uint32(spec.magic ?? EXTENDED_REQUEST_MAGIC),
    uint16(spec.flags ?? (spec.data === undefined ? 0 : COMMAND_FLAG.PAYLOAD_LEN)),
    uint16(command),
    uint64(cookie),
    uint64(spec.offset ?? 0),
    uint64(spec.length ?? data.length),
    data
  ])
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, queries: (string | Uint8Array)[]): Buffer {
  const parts = [name, ...queries].map(text => Buffer.from(text as string))
  const [first, ...rest] = parts.map(bytes => Buffer.concat([uint32(bytes.length), bytes]))
  return Buffer.concat([first!, uint32(queries.length), ...rest])
}

export class NbdClient {
  socket: Socket
  /** What was agreed on. */
  mode: ReplyMode = 'simple'
  /** Resolves when the server has ended the connection, politely or not. */
  readonly closed: Promise<void>
  #leave: () => void = () => undefined
  isClosed = false
  answerTimeoutMs = ANSWER_TIMEOUT_MS
  #chunks: Buffer[] = []
  #available = 0
  #wake: () => void = () => undefined
  #cookies = 0n
  readonly #waiting = new Map<bigint, Waiting>()
  #receiving = false

  constructor(socket: Socket) {
    this.socket = socket
    this.closed = new Promise(resolve => {
      this.#leave = () => {
        this.isClosed = true
        this.#wake()
        resolve()
      }
    })
    this.#attend(socket)
  }

  #attend(socket: Socket): void {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#available += chunk.length
      this.#wake()
    })
    // Being cut off is what many tests are about; `closed` tells them.
    socket.on('error', () => undefined)
    socket.on('end', this.#leave)
    socket.on('close', this.#leave)
  }

  /** Connects, to a socket's path or to HOST:PORT, and reads nothing yet. */
  static async dial(where: string): Promise<NbdClient> {
    const [, host, port] = /^([^/]+):(\d+)$/.exec(where) ?? []
    const socket = createConnection(
      host === undefined ? { path: where, allowHalfOpen: true } : { host, port: Number(port), allowHalfOpen: true }
    )
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new NbdClient(socket)
  }

  /** Connects and exchanges flags. */
  static async connect(path: string, flags = BOTH_FLAGS): Promise<NbdClient> {
    const client = await NbdClient.dial(path)
    await client.greeting()
    client.send(uint32(flags))
    return client
  }

  /** Connects and goes into transmission on an export. */
  static async open(path: string, name = '', requests: number[] = [], agree: Agree = {}): Promise<NbdClient> {
    const client = await NbdClient.connect(path)
    await client.go(name, requests, agree)
    return client
  }

  /** Goes into transmission on an export, with what is to be agreed on before. */
  async go(name = '', requests: number[] = [], { mode = 'simple', contexts }: Agree = {}): Promise<void> {
    if (mode !== 'simple') {
      const option = mode === 'structured' ? OPTION.STRUCTURED_REPLY : OPTION.EXTENDED_HEADERS
      await this.agree(option)
    }
    if (contexts !== undefined) await this.agree(OPTION.SET_META_CONTEXT, contextData(name, contexts))
    await this.agree(OPTION.GO, infoData(name, requests))
    this.mode = mode
  }

  /** An option that must be acknowledged. */
  async agree(option: number, data?: Uint8Array): Promise<void> {
    const replies = await this.option(option, data)
    if (replies.at(-1)?.type === REPLY.ACK) return
    throw new Error(`option ${option} was refused: ${replies.at(-1)?.data.toString()}`)
  }

  /** STARTTLS, and the handshake behind it. */
  async startTls(options: ConnectionOptions): Promise<void> {
    await this.agree(OPTION.STARTTLS)
    const plain = this.socket
    plain.removeAllListeners()
    const secure = connectTls({ ...options, socket: plain })
    plain.on('close', this.#leave)
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve)
      secure.once('error', reject)
      secure.once('close', () => reject(new Error('the server ended the handshake')))
    })
    secure.removeAllListeners('error').removeAllListeners('close')
    this.#attend(secure)
  }

  send(...bytes: Uint8Array[]): void {
    for (const piece of bytes) this.socket.write(piece)
  }

  /** The greeting's flags. */
  async greeting(): Promise<number> {
    const bytes = await this.read(18)
    if (bytes.readBigUInt64BE(0) !== NBD_MAGIC || bytes.readBigUInt64BE(8) !== OPTION_MAGIC) {
      throw new Error(`not an NBD greeting: ${bytes.toString('hex')}`)
    }
    return bytes.readUInt16BE(16)
  }

  /** Sends an option and reads its replies, up to the final one. */
  async option(option: number, data?: Uint8Array): Promise<OptionReply[]> {
    this.send(optionBytes(option, data))
    return await this.optionReplies()
  }

  async optionReplies(): Promise<OptionReply[]> {
    const replies: OptionReply[] = []
    for (;;) {
      const header = await this.read(20)
      if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw new Error('not a reply to an option')
      const type = header.readUInt32BE(12)
      replies.push({ option: header.readUInt32BE(8), type, data: await this.read(header.readUInt32BE(16)) })
      if (type === REPLY.ACK || type >= 2 ** 31) return replies
    }
  }

  /** Sends a request and resolves with its reply; rejects when the connection ends before it. */
  async request(command: number, spec: RequestSpec = {}): Promise<Reply> {
    const cookie = spec.cookie ?? ++this.#cookies
    const reply = this.expect(cookie, command === COMMAND.READ ? Number(spec.length ?? 0) : 0, spec.offset)
    this.send((this.mode === 'extended' ? extendedRequestBytes : requestBytes)(command, cookie, spec))
    return await reply
  }

  /** The reply to a cookie that is sent by other means. */
  async expect(cookie: bigint, dataBytes: number, offset: number | bigint = 0): Promise<Reply> {
    const reply = new Promise<Reply>((resolve, reject) => {
      this.#waiting.set(cookie, { bytes: dataBytes, offset: BigInt(offset), chunks: [], resolve, reject })
    })
    void this.#receive()
    return await reply
  }

  /** What BLOCK_STATUS says, by the number of the context. */
  async status(offset: number, length: number, spec: RequestSpec = {}): Promise<Map<number, Status[]>> {
    const { errno, chunks = [] } = await this.request(COMMAND.BLOCK_STATUS, { offset, length, ...spec })
    if (errno !== 0) throw new Error(`BLOCK_STATUS failed with ${errno}`)
    return new Map(chunks.map(chunk => [chunk.payload.readUInt32BE(0), decodeStatuses(chunk)]))
  }

  async bytes(offset: number, length: number): Promise<Buffer> {
    const { errno, data } = await this.request(COMMAND.READ, { offset, length })
    if (errno !== 0) throw new Error(`read of ${length} at ${offset} failed with ${errno}`)
    return data
  }

  /** Says goodbye and waits for the server to close. */
  async disconnect(): Promise<void> {
    this.send(requestBytes(COMMAND.DISC, 0n))
    await this.closed
    this.socket.destroy()
  }

  destroy(): void {
    this.socket.destroy()
  }

  /** Exactly `length` bytes; rejects when the connection ends before them. */
  async read(length: number): Promise<Buffer> {
    const deadline = Date.now() + this.answerTimeoutMs
    while (this.#available < length) {
      if (this.isClosed) throw new Error(`the server closed the connection, ${length - this.#available} bytes missing`)
      if (Date.now() > deadline) throw new Error(`no answer within ${this.answerTimeoutMs} ms`)
      await this.#more(deadline - Date.now())
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
    this.#available -= length
    this.#chunks = this.#available > 0 ? [all.subarray(length)] : []
    return all.subarray(0, length)
  }

  async #more(timeoutMs: number): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, timeoutMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  async #receive(): Promise<void> {
    if (this.#receiving) return
    this.#receiving = true
    try {
      while (this.#waiting.size > 0) {
        const magic = (await this.read(4)).readUInt32BE(0)
        if (magic === SIMPLE_REPLY_MAGIC) await this.#receiveSimple()
        else await this.#receiveChunk(magic)
      }
    } catch (error) {
      for (const { reject } of this.#waiting.values()) reject(error as Error)
      this.#waiting.clear()
    } finally {
      this.#receiving = false
    }
  }

  async #receiveSimple(): Promise<void> {
    const header = await this.read(12)
    const errno = header.readUInt32BE(0)
    const waiting = this.#waitingFor(header.readBigUInt64BE(4))
    if (this.mode === 'extended' || (this.mode === 'structured' && waiting.bytes > 0)) {
      throw new Error('a simple reply where there must be chunks')
    }
    const data = errno === 0 ? await this.read(waiting.bytes) : Buffer.alloc(0)
    this.#waiting.delete(header.readBigUInt64BE(4))
    waiting.resolve({ errno, data })
  }

  async #receiveChunk(magic: number): Promise<void> {
    const isExtended = this.mode === 'extended'
    if (this.mode === 'simple' || magic !== (isExtended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC)) {
      throw new Error(`not a reply: ${magic.toString(16)}`)
    }
    const header = await this.read(isExtended ? 28 : 16)
    const cookie = header.readBigUInt64BE(4)
    const waiting = this.#waitingFor(cookie)
    if (isExtended && header.readBigUInt64BE(12) !== waiting.offset) throw new Error('a chunk of another offset')
    const length = isExtended ? Number(header.readBigUInt64BE(20)) : header.readUInt32BE(12)
    const isLast = (header.readUInt16BE(0) & CHUNK_DONE) !== 0
    waiting.chunks.push({ type: header.readUInt16BE(2), isLast, payload: await this.read(length) })
    if (!isLast) return
    this.#waiting.delete(cookie)
    waiting.resolve(assemble(waiting))
  }

  #waitingFor(cookie: bigint): Waiting {
    const waiting = this.#waiting.get(cookie)
    if (waiting === undefined) throw new Error(`a reply to the unknown cookie ${cookie}`)
    return waiting
  }
}

interface Agree {
  mode?: ReplyMode
  contexts?: string[]
}

/** The data of a read, out of its chunks, which must cover it once; or its error. */
function assemble({ bytes, offset, chunks }: Waiting): Reply {
  const failed = chunks.find(chunk => chunk.type >= 2 ** 15)
  if (failed !== undefined) return { errno: failed.payload.readUInt32BE(0), data: Buffer.alloc(0), chunks }
  const data = Buffer.alloc(bytes, 0xee)
  let covered = 0
  for (const { type, payload } of chunks) {
    if (type !== CHUNK.OFFSET_DATA && type !== CHUNK.OFFSET_HOLE) continue
    const at = Number(payload.readBigUInt64BE(0) - offset)
    const length = type === CHUNK.OFFSET_DATA ? payload.length - 8 : payload.readUInt32BE(8)
    if (at < 0 || length === 0 || at + length > bytes) throw new Error(`a chunk of ${length} bytes at ${at}`)
    if (type === CHUNK.OFFSET_DATA) payload.copy(data, at, 8)
    else data.fill(0, at, at + length)
    covered += length
  }
  if (covered !== bytes) throw new Error(`${covered} of ${bytes} bytes came`)
  return { errno: 0, data, chunks }
}

function decodeStatuses({ type, payload }: Chunk): Status[] {
  const statuses: Status[] = []
  if (type === CHUNK.BLOCK_STATUS) {
    for (let at = 4; at < payload.length; at += 8)
      statuses.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)])
  } else if (type === CHUNK.BLOCK_STATUS_EXT) {
    if (payload.readUInt32BE(4) !== (payload.length - 8) / 16) throw new Error('a wrong number of descriptors')
    for (let at = 8; at < payload.length; at += 16) {
      statuses.push([Number(payload.readBigUInt64BE(at)), Number(payload.readBigUInt64BE(at + 8))])
    }
  } else {
    throw new Error(`a chunk of type ${type}`)
  }
  return statuses
}
