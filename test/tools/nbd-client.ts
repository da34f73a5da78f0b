/**
 * A raw NBD client for tests: says what it is told, also what no honest client would say.
 *
 * The negotiation is a dialogue (`option` returns the replies up to the final one). In transmission, `request` sends
 * and resolves with the reply to its cookie, so that many can be in flight; `send` sends any bytes at all.
 */
import { createConnection, type Socket } from 'node:net'
import {
  COMMAND,
  HANDSHAKE_FLAG,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  REPLY,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC
} from '../../src/nbd/protocol.ts'

const BOTH_FLAGS = HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES
/** No answer takes longer in a test. */
const ANSWER_TIMEOUT_MS = 20_000

export interface OptionReply {
  option: number
  type: number
  data: Buffer
}

export interface Reply {
  errno: number
  data: Buffer
}

export interface RequestSpec {
  offset?: number | bigint
  length?: number
  flags?: number
  data?: Uint8Array
  cookie?: bigint
  magic?: number
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
    uint32(spec.length ?? data.length),
    data
  ])
}

export class NbdClient {
  readonly socket: Socket
  /** Resolves when the server has ended the connection, politely or not. */
  readonly closed: Promise<void>
  isClosed = false
  #chunks: Buffer[] = []
  #available = 0
  #wake: () => void = () => undefined
  #cookies = 0n
  readonly #waiting = new Map<bigint, { bytes: number; resolve: (reply: Reply) => void; reject: (e: Error) => void }>()
  #receiving = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#available += chunk.length
      this.#wake()
    })
    // Being cut off is what many tests are about; `closed` tells them.
    socket.on('error', () => undefined)
    this.closed = new Promise(resolve => {
      const leave = () => {
        this.isClosed = true
        this.#wake()
        resolve()
      }
      socket.on('end', leave)
      socket.on('close', leave)
    })
  }

  /** Connects and reads nothing yet. */
  static async dial(path: string): Promise<NbdClient> {
    const socket = createConnection({ path, allowHalfOpen: true })
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
  static async open(path: string, name = '', requests: number[] = []): Promise<NbdClient> {
    const client = await NbdClient.connect(path)
    const replies = await client.option(OPTION.GO, infoData(name, requests))
    if (replies.at(-1)?.type !== REPLY.ACK) throw new Error(`GO was refused: ${JSON.stringify(replies)}`)
    return client
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
    const reply = this.expect(cookie, command === COMMAND.READ ? (spec.length ?? 0) : 0)
    this.send(requestBytes(command, cookie, spec))
    return await reply
  }

  /** The reply to a cookie that is sent by other means. */
  async expect(cookie: bigint, dataBytes: number): Promise<Reply> {
    const reply = new Promise<Reply>((resolve, reject) => {
      this.#waiting.set(cookie, { bytes: dataBytes, resolve, reject })
    })
    void this.#receive()
    return await reply
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
    const deadline = Date.now() + ANSWER_TIMEOUT_MS
    while (this.#available < length) {
      if (this.isClosed) throw new Error(`the server closed the connection, ${length - this.#available} bytes missing`)
      if (Date.now() > deadline) throw new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)
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
        const header = await this.read(16)
        if (header.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) throw new Error(`not a reply: ${header.toString('hex')}`)
        const errno = header.readUInt32BE(4)
        const cookie = header.readBigUInt64BE(8)
        const waiting = this.#waiting.get(cookie)
        if (waiting === undefined) throw new Error(`a reply to the unknown cookie ${cookie}`)
        const data = errno === 0 ? await this.read(waiting.bytes) : Buffer.alloc(0)
        this.#waiting.delete(cookie)
        waiting.resolve({ errno, data })
      }
    } catch (error) {
      for (const { reject } of this.#waiting.values()) reject(error as Error)
      this.#waiting.clear()
    } finally {
      this.#receiving = false
    }
  }
}
