/**
 * The daemon's ear: HTTP on a Unix socket that only its owner can open.
 *
 *     POST /v1/COMMAND    parameters as a JSON object in, newline-delimited JSON out: any number of
 *                         {"progress": {...}}, then one {"result": ...} or {"error": {"code", "message"}}
 *     GET  /v1/ping       {"ok": true, "version", "pid"}
 *
 * A command that was started answers 200 and its error, if any, is in the last line; a request that was not understood
 * answers 4xx with an error line, one that is too many 503. A client that goes away aborts its command.
 *
 * Owns: the socket. Does not own: the commands.
 */
import { chmodSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { checkSocketPath, freeSocketPath } from '../socket-path.ts'
import type { Progress } from './command-results.ts'
import type { CommandTable } from './daemon-api.ts'

export const MAX_REQUEST_BYTES = 1024 * 1024
/** Commands that run at a time. */
export const MAX_COMMANDS = 64
/** With room for those who are told that it is too many, and who ask whether anybody is there: cut off, they would not think so. */
const MAX_CONTROL_CONNECTIONS = 2 * MAX_COMMANDS
/** A request must be complete by then; the answer may take as long as it takes. */
const REQUEST_TIMEOUT_MS = 10_000
/** How long `stop` waits for commands that were aborted, and for clients to take their answers. */
export const STOP_TIMEOUT_MS = 5_000

export interface ControlServerSettings {
  socketPath: string
  /** What `ping` says. */
  version: string
}

export class ControlServer {
  readonly #commands: CommandTable
  readonly #log: Log
  readonly #settings: ControlServerSettings
  readonly #server: Server
  readonly #running = new Set<AbortController>()
  /** Clients that have not asked for anything yet, or not in full. */
  readonly #silent = new Set<Socket>()

  constructor(components: { commands: CommandTable; log: Log }, settings: ControlServerSettings) {
    this.#commands = components.commands
    this.#log = components.log
    this.#settings = settings
    this.#server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
      this.#answer(request, response).catch(error => {
        this.#log.warn('a control connection failed', { error })
        response.destroy()
      })
    })
    this.#server.maxConnections = MAX_CONTROL_CONNECTIONS
    this.#server.on('connection', (socket: Socket) => {
      this.#silent.add(socket)
      socket.once('close', () => this.#silent.delete(socket))
    })
  }

  /** @throws RowanError SOCKET_PATH_TOO_LONG, HOME_IN_USE when somebody answers there already, LISTEN_FAILED */
  async start(): Promise<void> {
    const { socketPath } = this.#settings
    checkSocketPath(socketPath)
    await freeSocketPath(socketPath, 'HOME_IN_USE')
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', error =>
        reject(new RowanError('LISTEN_FAILED', `cannot listen on ${socketPath}: ${error.message}`, { cause: error }))
      )
      // bind() happens inside listen(), so under this umask the socket is never open to others, not even for a moment.
      const before = process.umask(0o177)
      try {
        this.#server.listen(socketPath, resolve)
      } finally {
        process.umask(before)
      }
    })
    this.#server.removeAllListeners('error')
    this.#server.on('error', error => this.#log.warn('the control socket has a problem', { error }))
    chmodSync(socketPath, 0o600)
  }

  /**
   * Takes no more requests, aborts the running commands and waits, for a bounded time, until each has answered. Whoever
   * has not asked in full is cut off at once: Node's time-out for requests ends when the server closes.
   */
  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()))
    for (const controller of this.#running) {
      controller.abort(new RowanError('ABORTED', 'the daemon is stopping'))
    }
    for (const socket of this.#silent) socket.destroy()
    const timer = setTimeout(() => {
      this.#log.warn('control clients are cut off before they were answered', { running: this.#running.size })
      this.#server.closeAllConnections()
    }, STOP_TIMEOUT_MS)
    await closed
    clearTimeout(timer)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // One request for each connection: a client is one command of the command line.
    response.setHeader('connection', 'close')
    response.on('error', error => this.#log.debug('a control client went away', { error }))
    const url = request.url ?? ''
    if (request.method === 'GET' && url === '/v1/ping') {
      const { version } = this.#settings
      return end(response, 200, { ok: true, version, pid: process.pid })
    }
    const name = url.startsWith('/v1/') ? url.slice('/v1/'.length) : ''
    const command = Object.hasOwn(this.#commands, name) ? this.#commands[name] : undefined
    if (command === undefined) return refuse(response, 404, `there is no command "${url.slice(0, 100)}"`)
    if (request.method !== 'POST') return refuse(response, 405, `a command is sent by POST, not ${request.method}`)
    const body = await readBody(request)
    this.#silent.delete(request.socket)
    if (body === undefined) return refuse(response, 413, `the request is larger than ${MAX_REQUEST_BYTES} bytes`)
    if (this.#running.size >= MAX_COMMANDS) {
      const says = `${MAX_COMMANDS} commands run already, which is the limit`
      return end(response, 503, { error: { code: 'LIMIT_EXCEEDED', message: says } })
    }
    let params: unknown
    try {
      params = body.trim() === '' ? {} : JSON.parse(body)
    } catch (error) {
      return refuse(response, 400, `the request is not JSON: ${(error as Error).message}`)
    }
    await this.#run(name, command, params, response)
  }

  async #run(name: string, command: CommandTable[string], params: unknown, response: ServerResponse): Promise<void> {
    const controller = new AbortController()
    this.#running.add(controller)
    response.on('close', () => {
      if (response.writableEnded) return
      this.#log.debug('a control client left before its answer', { command: name })
      controller.abort(new RowanError('ABORTED', 'the client went away'))
    })
    response.setHeader('content-type', 'application/x-ndjson')
    const context = {
      signal: controller.signal,
      progress: (progress: Progress) => {
        // A client that does not read loses progress, not the daemon its memory.
        if (response.writableNeedDrain || response.writableEnded || response.destroyed) return
        response.write(`${JSON.stringify({ progress })}\n`)
      }
    }
    try {
      const result = await command(params, context)
      end(response, 200, { result: result ?? null })
    } catch (error) {
      const { code, message, stack } = asRowanError(error)
      this.#log.info('a command failed', { command: name, code, message })
      if (code === 'INTERNAL') this.#log.warn('an internal error', { stack })
      end(response, 200, { error: { code, message } })
    } finally {
      this.#running.delete(controller)
    }
  }
}

/** Ends the answer with one line. */
function end(response: ServerResponse, status: number, line: object): void {
  if (!response.headersSent) {
    response.statusCode = status
    if (!response.hasHeader('content-type')) response.setHeader('content-type', 'application/json')
  }
  response.end(`${JSON.stringify(line)}\n`)
}

function refuse(response: ServerResponse, status: number, message: string): void {
  end(response, status, { error: { code: 'REQUEST_INVALID', message } })
}

/** The request's body; undefined if it is larger than allowed. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length
    // What is beyond the limit is read and thrown away, so that the client gets to read its answer.
    if (sizeBytes <= MAX_REQUEST_BYTES) chunks.push(chunk)
    else chunks.length = 0
  }
  return sizeBytes > MAX_REQUEST_BYTES ? undefined : Buffer.concat(chunks).toString('utf8')
}
