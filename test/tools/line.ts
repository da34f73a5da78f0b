/**
 * A home line for tests and benches: one process of bench/tools/wanlink.mjs, whose pairs share one rate.
 *
 * A line of another kind can take the same ports, so that the addresses that peers announce stay what they are.
 */
import { createServer } from 'node:net'
import { join } from 'node:path'
import { type RunningProcess, start } from './processes.ts'

const WANLINK = join(import.meta.dirname, '../../bench/tools/wanlink.mjs')

export interface LineKind {
  rttMs: number
  /** Towards the volunteer; 0 for no limit. */
  downMbit: number
  upMbit: number
  /** Every connection is closed after so many bytes came down; never if absent. */
  dropAfterBytes?: number
  /** Every connection delivers nothing any more after so many bytes, and stays open; never if absent. */
  stallAfterBytes?: number
}

/** No delay and no limit: for setting things up. */
export const PERFECT: LineKind = { rttMs: 0, downMbit: 0, upMbit: 0 }

export interface LineCount {
  connections: number
  downBytes: number
  upBytes: number
}

/** A port of this host that carries to another one. */
export interface Pair {
  listenPort: number
  toPort: number
}

/** Addresses that a line lies between, and what its process is run through. */
export interface Between {
  through: string[]
  listen: string
  to: string
}

const LOOPBACK: Between = { through: [], listen: '127.0.0.1', to: '127.0.0.1' }

export class Line {
  readonly kind: LineKind
  readonly #process: RunningProcess

  private constructor(kind: LineKind, process: RunningProcess) {
    this.kind = kind
    this.#process = process
  }

  /** On this host, unless `between` names another one, and what it lies between. */
  static async open(kind: LineKind, pairs: Pair[], between: Between = LOOPBACK): Promise<Line> {
    const ends = pairs.flatMap(({ listenPort, toPort }) => [
      ...['--listen', `${between.listen}:${listenPort}`],
      ...['--to', `${between.to}:${toPort}`]
    ])
    const { rttMs, downMbit, upMbit, dropAfterBytes = 0, stallAfterBytes = 0 } = kind
    const rates = ['--rtt', rttMs, '--down', downMbit, '--up', upMbit].map(String)
    const faults = ['--drop-after', dropAfterBytes, '--stall-after', stallAfterBytes].map(String)
    const [file, ...args] = [...between.through, 'node', WANLINK, ...ends, ...rates, ...faults]
    const process = start(file!, args, { name: 'wanlink' })
    await process.waitForOutput(/^wanlink ready/m)
    return new Line(kind, process)
  }

  get pid(): number {
    return this.#process.pid
  }

  /** What has crossed it since it was opened. */
  async count(): Promise<LineCount> {
    const before = this.#process.stdout.length
    this.#process.kill('SIGUSR2')
    while (!this.#process.stdout.slice(before).includes('\n')) {
      if (this.#process.exit !== undefined) throw new Error(`the line is gone\n${this.#process.tail()}`)
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    return JSON.parse(this.#process.stdout.slice(before)) as LineCount
  }

  /** Every connection over it ends. */
  async close(): Promise<void> {
    await this.#process.stop('SIGKILL')
  }
}

/** A port that nobody uses now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port to be had')
  return address.port
}
