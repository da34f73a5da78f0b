/**
 * The command line's mouth: sends one command to the daemon of a home and reads its answer line by line.
 */
import { type IncomingMessage, request } from 'node:http'
import { pipe } from 'it-pipe'
import { ERRORS, type ErrorCode, RowanError } from '../errors.ts'
import { checkSocketPath } from '../socket-path.ts'
import type { Progress, Results } from './command-results.ts'
import type { Command, Params } from './daemon-api.ts'
import { splitLines } from './split-lines.ts'

/** The longest line of an answer: `status` of a thousand machines is under 1 MiB. */
const MAX_ANSWER_LINE_CHARS = 64 * 1024 * 1024

export interface CallOptions {
  signal?: AbortSignal
  onProgress?: (progress: Progress) => void
}

interface AnswerLine {
  progress?: Progress
  result?: unknown
  error?: { code: string; message: string }
}

export class ControlClient {
  readonly #socketPath: string

  constructor(socketPath: string) {
    checkSocketPath(socketPath)
    this.#socketPath = socketPath
  }

  /**
   * @returns the command's result
   * @throws RowanError the daemon's own errors; DAEMON_NOT_RUNNING; ABORTED when `signal` fires
   */
  async call<C extends Command>(command: C, params: Params<C>, options: CallOptions = {}): Promise<Results[C]> {
    const response = await this.#send('POST', command, JSON.stringify(params), options.signal)
    for await (const answer of this.#answers(response)) {
      if (answer.progress !== undefined) options.onProgress?.(answer.progress)
      if (answer.error !== undefined) throw errorFrom(answer.error)
      if (answer.result !== undefined) return answer.result as Results[C]
    }
    throw this.#gone()
  }

  /** @throws RowanError DAEMON_NOT_RUNNING */
  async ping(options: { signal?: AbortSignal } = {}): Promise<{ ok: boolean; version: string; pid: number }> {
    const response = await this.#send('GET', 'ping', undefined, options.signal)
    for await (const answer of this.#answers(response)) return answer as { ok: boolean; version: string; pid: number }
    throw this.#gone()
  }

  #send(method: string, name: string, body: string | undefined, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers: Record<string, string | number> =
        body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
      const sent = request({
        socketPath: this.#socketPath,
        path: `/v1/${name}`,
        method,
        headers,
        ...(signal === undefined ? {} : { signal })
      })
      sent.once('response', resolve)
      sent.once('error', error => reject(this.#failure(error, signal)))
      sent.end(body)
    })
  }

  /** The answer's lines, parsed; what breaks the connection comes as one of our errors. */
  async *#answers(response: IncomingMessage): AsyncGenerator<AnswerLine> {
    response.setEncoding('utf8')
    try {
      yield* pipe(response as AsyncIterable<string>, source => splitLines(source, MAX_ANSWER_LINE_CHARS), parseLines)
    } catch (error) {
      throw error instanceof RowanError ? error : this.#failure(error as NodeJS.ErrnoException, undefined)
    }
  }

  #failure(error: NodeJS.ErrnoException, signal: AbortSignal | undefined): RowanError {
    if (signal?.aborted || error.name === 'AbortError') {
      return new RowanError('ABORTED', 'the command was interrupted', { cause: error })
    }
    if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
      return new RowanError('DAEMON_NOT_RUNNING', `no daemon answers on ${this.#socketPath}`, { cause: error })
    }
    if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return this.#gone(error)
    return new RowanError('DAEMON_NOT_RUNNING', `${this.#socketPath}: ${error.message}`, { cause: error })
  }

  #gone(cause?: unknown): RowanError {
    return new RowanError('DAEMON_NOT_RUNNING', `the daemon on ${this.#socketPath} went away before it answered`, {
      cause
    })
  }
}

async function* parseLines(lines: AsyncIterable<string>): AsyncGenerator<AnswerLine> {
  for await (const line of lines) {
    try {
      yield JSON.parse(line)
    } catch (error) {
      throw new RowanError('REQUEST_INVALID', `the daemon's answer is not JSON: ${line.slice(0, 100)}`, {
        cause: error
      })
    }
  }
}

/** The daemon's error as one of ours; a code that this version does not know keeps its name in the message. */
function errorFrom({ code, message }: { code: string; message: string }): RowanError {
  if (Object.hasOwn(ERRORS, code)) return new RowanError(code as ErrorCode, message)
  return new RowanError('INTERNAL', `${message} (${code})`)
}
