/**
 * Calls web servers, for web seeds: only where this peer may knock, and for no more than was asked for.
 *
 * A URL is what somebody else wrote, so nothing of it is trusted. The address that a name leads to is judged after it was resolved
 * and is the very one that is connected to; a name that answers differently the next time gains nothing. A redirection is followed
 * to the same origin alone. The answer must be what was asked for: the whole file (200) or exactly this range (206), as it is
 * (no encoding), and the body ends the connection when it goes on. Each wait has its time-out, and all waits of a request together
 * have one, so that nobody keeps a request with a byte now and then.
 *
 * Owns: the connections, a few of which stay open between requests.
 */
import { type LookupAddress, type LookupAllOptions, lookup as systemLookup } from 'node:dns'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction, type Socket } from 'node:net'
import type { Clock, Timer } from '../environment.ts'
import { asRowanError, type ErrorCode, RowanError } from '../errors.ts'
import type { WebNetwork, WebRequest } from '../swarm/web-network.ts'

export interface HttpTimeouts {
  /** Resolving, connecting, TLS. */
  connectMs: number
  firstByteMs: number
  chunkMs: number
  /** All of this request's waiting. */
  totalMs: number
}

export const HTTP_TIMEOUTS: HttpTimeouts = { connectMs: 5_000, firstByteMs: 8_000, chunkMs: 8_000, totalMs: 60_000 }
const MAX_REDIRECTS = 2
const MAX_HEADER_BYTES = 16 * 1024
const MAX_SOCKETS_PER_HOST = 8
const IDLE_SOCKET_MS = 30_000
const REDIRECTS = [301, 302, 303, 307, 308]
/** Object stores say 403 of what is not there to whoever may not list. */
const ABSENT = [403, 404, 410]

type Resolve = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void
) => void

export interface HttpComponents {
  /** Whether this peer may call an address, as a multiaddr. */
  mayDial(address: string): boolean
  clock: Pick<Clock, 'after' | 'monotonicMs'>
  /** The system's, if absent. */
  resolve?: Resolve
}

export class HttpNetwork implements WebNetwork {
  readonly #components: HttpComponents
  readonly #timeouts: HttpTimeouts
  readonly #guarded = new WeakSet<Socket>()
  readonly #agents: { 'http:': HttpAgent; 'https:': HttpsAgent }

  constructor(components: HttpComponents, timeouts: HttpTimeouts = HTTP_TIMEOUTS) {
    this.#components = components
    this.#timeouts = timeouts
    const options = { keepAlive: true, maxSockets: MAX_SOCKETS_PER_HOST, timeout: IDLE_SOCKET_MS }
    this.#agents = { 'http:': new HttpAgent(options), 'https:': new HttpsAgent(options) }
  }

  /** Closes all connections. */
  stop(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy()
  }

  async get(request: WebRequest): Promise<AsyncIterable<Uint8Array> | undefined> {
    let url = new URL(request.url)
    for (let redirects = 0; ; redirects++) {
      const waits = new Waits(this.#components.clock, this.#timeouts.totalMs)
      const answer = await this.#ask(url, request, waits)
      const { statusCode = 0, headers } = answer
      if (!REDIRECTS.includes(statusCode)) return this.#body(answer, request, waits, url)
      answer.destroy()
      const next = URL.canParse(headers.location ?? '', url.href) ? new URL(headers.location!, url) : undefined
      if (next?.origin !== url.origin || redirects >= MAX_REDIRECTS) {
        throw refused(url, `redirects to ${next?.origin ?? 'nowhere'}${redirects >= MAX_REDIRECTS ? ', again' : ''}`)
      }
      url = next
    }
  }

  /** Resolves when the head of the answer is here. */
  #ask(url: URL, { range, signal }: WebRequest, waits: Waits): Promise<IncomingMessage> {
    const protocol = url.protocol
    if (protocol !== 'http:' && protocol !== 'https:') throw refused(url, 'is neither http nor https')
    const port = Number(url.port || (protocol === 'https:' ? 443 : 80))
    // What is an address already is not looked up.
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    if (isIP(host) !== 0 && !this.#mayCall(host, port)) throw notAllowed(host, [host])
    const options: RequestOptions = {
      agent: this.#agents[protocol],
      lookup: this.#lookup(port),
      maxHeaderSize: MAX_HEADER_BYTES,
      headers: {
        'accept-encoding': 'identity',
        ...(range && { range: `bytes=${range.from}-${range.from + range.length - 1}` })
      },
      signal
    }
    return new Promise((resolve, reject) => {
      const request = protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options)
      const fail = (code: ErrorCode, what: string) => request.destroy(new RowanError(code, `${url.host} ${what}`))
      const { connectMs, firstByteMs } = this.#timeouts
      const awaitAnswer = () => waits.begin(firstByteMs, () => fail('TIMEOUT_RESPONSE', 'does not answer'))
      waits.begin(connectMs, () => fail('TIMEOUT_DIAL', 'cannot be reached in time'))
      request.on('socket', socket => {
        this.#guard(socket)
        if (socket.connecting) socket.once(protocol === 'https:' ? 'secureConnect' : 'connect', awaitAnswer)
        else awaitAnswer()
      })
      request.on('response', answer => {
        waits.end()
        resolve(answer)
      })
      request.on('error', error => {
        waits.end()
        reject(asRowanError(error, 'WEB_SEED_UNREACHABLE', url.host))
      })
      request.end()
    })
  }

  /**
   * Node takes its own listener off a connection when an answer has ended, and gives it back a moment later. A request that is stopped
   * in between would be an exception that nobody catches; nobody waits for anything then.
   */
  #guard(socket: Socket): void {
    if (this.#guarded.has(socket)) return
    this.#guarded.add(socket)
    socket.on('error', () => undefined)
  }

  /** Judges the head of an answer. */
  #body(
    answer: IncomingMessage,
    { range, maxBytes, signal }: WebRequest,
    waits: Waits,
    url: URL
  ): AsyncIterable<Uint8Array> | undefined {
    const { statusCode = 0, headers } = answer
    if (ABSENT.includes(statusCode)) {
      answer.destroy()
      return undefined
    }
    const problem = problemOf(statusCode, headers, range, maxBytes)
    if (problem !== undefined) {
      answer.destroy()
      throw refused(url, problem)
    }
    const announced = headers['content-length'] === undefined ? undefined : Number(headers['content-length'])
    return this.#chunks(
      answer,
      { exactBytes: range?.length ?? announced, maxBytes: range?.length ?? maxBytes, signal },
      waits,
      url
    )
  }

  async *#chunks(
    answer: IncomingMessage,
    { exactBytes, maxBytes, signal }: { exactBytes: number | undefined; maxBytes: number; signal: AbortSignal },
    waits: Waits,
    url: URL
  ): AsyncGenerator<Uint8Array> {
    const chunks = answer[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
    let bytes = 0
    try {
      for (;;) {
        waits.begin(this.#timeouts.chunkMs, () => {
          answer.destroy(new RowanError('TIMEOUT_RESPONSE', `${url.host} stopped in the middle of an answer`))
        })
        const { value, done } = await chunks.next().finally(() => waits.end())
        if (done === true) break
        bytes += value.byteLength
        if (bytes > maxBytes) throw refused(url, `sends more than the ${maxBytes} bytes that were asked for`)
        yield value
      }
      if (exactBytes !== undefined && bytes !== exactBytes)
        throw refused(url, `sent ${bytes} bytes instead of ${exactBytes}`)
    } catch (error) {
      if (signal.aborted) throw new RowanError('ABORTED', `the request to ${url.host} was stopped`, { cause: error })
      throw asRowanError(error, 'WEB_SEED_UNREACHABLE', url.host)
    } finally {
      // After the last byte of a good answer the connection is free for the next; else it ends here.
      if (!answer.complete) answer.destroy()
    }
  }

  #lookup(port: number): LookupFunction {
    const { resolve = systemLookup as Resolve } = this.#components
    return (hostname, options, callback) => {
      resolve(hostname, { ...options, all: true } as LookupAllOptions, (error, addresses) => {
        if (error !== null) return callback(error, '')
        const allowed = addresses.filter(({ address }) => this.#mayCall(address, port))
        const [first] = allowed
        if (first === undefined) {
          return callback(
            notAllowed(
              hostname,
              addresses.map(({ address }) => address)
            ),
            ''
          )
        }
        if (options.all === true) callback(null, allowed)
        else callback(null, first.address, first.family)
      })
    }
  }

  #mayCall(ip: string, port: number): boolean {
    return this.#components.mayDial(`/ip${isIP(ip)}/${ip}/tcp/${port}`)
  }
}

/** Time-outs of one request: of the wait that goes on, and of all of them together. */
class Waits {
  readonly #clock: HttpComponents['clock']
  #leftMs: number
  #startMs = 0
  #timer: Timer | undefined

  constructor(clock: HttpComponents['clock'], totalMs: number) {
    this.#clock = clock
    this.#leftMs = totalMs
  }

  begin(limitMs: number, onTimeout: () => void): void {
    this.end()
    this.#startMs = this.#clock.monotonicMs()
    this.#timer = this.#clock.after(Math.max(0, Math.min(limitMs, this.#leftMs)), onTimeout)
  }

  end(): void {
    if (this.#timer === undefined) return
    this.#timer.cancel()
    this.#timer = undefined
    this.#leftMs -= this.#clock.monotonicMs() - this.#startMs
  }
}

/** Why an answer cannot be used; undefined if it can. */
function problemOf(
  status: number,
  headers: IncomingMessage['headers'],
  range: WebRequest['range'],
  maxBytes: number
): string | undefined {
  const expected = range === undefined ? 200 : 206
  if (status !== expected) return `answers ${status} instead of ${expected}`
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') return `encodes its answer as ${encoding.slice(0, 40)}`
  const length = headers['content-length'] === undefined ? undefined : Number(headers['content-length'])
  if (range === undefined)
    return length !== undefined && length > maxBytes ? `has a file of ${length} bytes` : undefined
  const said = /^bytes (\d+)-(\d+)\/(?:\d+|\*)$/.exec(headers['content-range'] ?? '')
  if (Number(said?.[1]) !== range.from || Number(said?.[2]) !== range.from + range.length - 1) {
    return `gives the range ${(headers['content-range'] ?? 'without a name').slice(0, 80)}`
  }
  return length !== undefined && length !== range.length ? `announces ${length} bytes of ${range.length}` : undefined
}

function refused(url: URL, what: string): RowanError {
  return new RowanError('WEB_SEED_REFUSED', `${url.host} ${what}`)
}

function notAllowed(host: string, addresses: string[]): RowanError {
  return new RowanError(
    'WEB_SEED_ADDRESS',
    `${host} leads to ${addresses.slice(0, 4).join(', ') || 'no address'}, which may not be called`
  )
}
