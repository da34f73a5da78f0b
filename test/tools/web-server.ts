/**
 * A static web server for tests, over a folder: it answers ranges, and counts what it was asked for. A test can make it bad.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join, normalize } from 'node:path'

export interface Asked {
  path: string
  range: string | undefined
}

/** Answers in its own way; false to leave it to the server. */
export type Misbehave = (path: string, answer: ServerResponse, request: IncomingMessage) => boolean

export class WebServer {
  readonly asked: Asked[] = []
  /** Asked for each request; set it to make the server bad. */
  misbehave: Misbehave = () => false
  connections = 0
  /** Of TLS: clients that went away in the middle. */
  refusedHandshakes = 0
  readonly #server: Server
  readonly #folder: string

  readonly #scheme: 'http' | 'https'

  private constructor(folder: string, tls?: { cert: string; key: string }) {
    this.#folder = folder
    this.#scheme = tls === undefined ? 'http' : 'https'
    const onRequest = (request: IncomingMessage, answer: ServerResponse) => this.#answer(request, answer)
    this.#server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest)
    this.#server.on('connection', () => this.connections++)
    this.#server.on('tlsClientError', () => this.refusedHandshakes++)
  }

  /** @param tls - certificate and key, in PEM */
  static async start(folder: string, tls?: { cert: string; key: string }): Promise<WebServer> {
    const server = new WebServer(folder, tls)
    await new Promise<void>(resolve => void server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}/`
  }

  /** Requests of blocks. */
  get packs(): Asked[] {
    return this.asked.filter(({ path }) => path.includes('/pack-'))
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>(resolve => void this.#server.close(() => resolve()))
  }

  #answer(request: IncomingMessage, answer: ServerResponse): void {
    const path = normalize(new URL(request.url ?? '/', this.url).pathname)
    const { range } = request.headers
    this.asked.push({ path, range })
    if (this.misbehave(path, answer, request)) return
    const file = join(this.#folder, path)
    if (!existsSync(file)) {
      answer.writeHead(404).end('not here')
      return
    }
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? []
    const { part, of } = read(file, Number(from ?? 0), from === undefined ? undefined : Number(to) + 1)
    const length = { 'content-length': part.byteLength }
    if (from === undefined) answer.writeHead(200, length)
    else
      answer.writeHead(206, { ...length, 'content-range': `bytes ${from}-${Number(from) + part.byteLength - 1}/${of}` })
    answer.end(part)
  }
}

function read(file: string, from: number, to = Number.POSITIVE_INFINITY): { part: Buffer; of: number } {
  const handle = openSync(file, 'r')
  try {
    const of = fstatSync(handle).size
    const part = Buffer.alloc(Math.max(0, Math.min(of, to) - from))
    readSync(handle, part, 0, part.byteLength, from)
    return { part, of }
  } finally {
    closeSync(handle)
  }
}
