/**
 * Real peers for tests: `rowan up` processes on loopback, and the commands that talk to them.
 *
 * A peer keeps its home and its port over a restart, so that it can be killed and come back as itself.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Results } from '../../src/node/command-results.ts'
import type { Command, UpResult } from '../../src/node/daemon-api.ts'
import { temporaryFolder } from './folders.ts'
import { type RunningProcess, run, start } from './processes.ts'
import { PATIENCE_MS, waitUntil } from './wait.ts'

export const ROWAN = fileURLToPath(new URL('../../bin/rowan', import.meta.url))
const COMMAND_TIMEOUT_MS = 180_000
const LOOPBACK = '/ip4/127.0.0.1/tcp/0'

export interface PeerOptions {
  /** Default: a new temporary folder. */
  home?: string
  /** Peers to join through. */
  bootstrap?: Peer[]
  /** Lines of its config.toml. */
  config?: string
  /** More arguments of `rowan up`. */
  args?: string[]
  env?: NodeJS.ProcessEnv
  /** A program, and its arguments, that starts the daemon in its own place. */
  through?: string[]
  /** Where it listens, also when it announces other addresses; false: nowhere. Default: a port of loopback. */
  listen?: string | false
}

export interface CommandResult {
  status: number | null
  stdout: string
  stderr: string
}

/** Runs the command line without a daemon of its own; the status is the caller's to judge. */
export async function rowan(
  args: string[],
  options: { timeoutMs?: number; env?: NodeJS.ProcessEnv; cwd?: string } = {}
): Promise<CommandResult> {
  return await run(ROWAN, args, { name: 'rowan', timeoutMs: COMMAND_TIMEOUT_MS, ...options })
}

export class Peer {
  readonly home: string
  readonly #args: string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #through: string[]
  readonly #fixedListen: string | false | undefined
  #listen = LOOPBACK
  #process: RunningProcess | undefined
  #ready: UpResult | undefined

  private constructor(home: string, args: string[], options: PeerOptions) {
    this.home = home
    this.#args = args
    this.#env = { ...process.env, ...options.env }
    this.#through = options.through ?? []
    this.#fixedListen = options.listen
  }

  /** Starts a peer and waits until it is ready. */
  static async start(options: PeerOptions = {}): Promise<Peer> {
    const home = options.home ?? (await temporaryFolder())
    await mkdir(home, { recursive: true, mode: 0o700 })
    if (options.config !== undefined) await writeFile(join(home, 'config.toml'), options.config, { mode: 0o600 })
    const bootstrap = (options.bootstrap ?? []).flatMap(peer => peer.addresses.slice(0, 1))
    const args = [...bootstrap.flatMap(address => ['--bootstrap', address]), ...(options.args ?? [])]
    const peer = new Peer(home, args, options)
    await peer.up()
    return peer
  }

  /** Starts the daemon, again under the same address if it ran before. */
  async up(): Promise<void> {
    const listen = this.#fixedListen === false ? ['--no-listen'] : ['--listen', this.#fixedListen ?? this.#listen]
    const up = ['up', '--json', '--home', this.home, ...listen, ...this.#args]
    const [file = ROWAN, ...args] = [...this.#through, ROWAN, ...up]
    const started = start(file, args, { name: `rowan up (${this.home})`, env: this.#env })
    this.#process = started
    const [line] = await started.waitForOutput(/^\{.*\}$/m)
    const ready = JSON.parse(line) as UpResult & { error?: unknown }
    if (ready.error !== undefined) throw new Error(`${started.name} did not start\n${started.tail()}`)
    this.#ready = ready
    this.#listen = ready.addresses[0]?.replace(/\/p2p\/.*$/, '') ?? this.#listen
  }

  get ready(): UpResult {
    if (this.#ready === undefined) throw new Error(`the peer in ${this.home} was never ready`)
    return this.#ready
  }

  get id(): string {
    return this.ready.peer
  }

  get publisher(): string {
    return this.ready.publisher
  }

  get addresses(): string[] {
    return this.ready.addresses
  }

  get process(): RunningProcess {
    if (this.#process === undefined) throw new Error(`no daemon in ${this.home}`)
    return this.#process
  }

  get log(): string {
    return this.process.stderr
  }

  /** Runs a command against this peer. */
  async run(args: string[], options: { timeoutMs?: number } = {}): Promise<CommandResult> {
    const dashes = args.indexOf('--')
    const at = dashes < 0 ? args.length : dashes
    return await rowan([...args.slice(0, at), '--home', this.home, ...args.slice(at)], options)
  }

  /** Runs a command that must succeed and parses its JSON answer, which is all that stdout may carry. */
  async ask(command: string[], options: { timeoutMs?: number } = {}): Promise<unknown> {
    const result = await this.run(['--json', ...command], options)
    if (result.status !== 0) throw new Error(`rowan ${command.join(' ')}: ${result.stderr}\n${this.process.tail()}`)
    return JSON.parse(result.stdout)
  }

  /** `ask` for the daemon's own commands, whose answers have types. */
  async json<C extends Command>(command: [C, ...string[]], options: { timeoutMs?: number } = {}): Promise<Results[C]> {
    return (await this.ask(command, options)) as Results[C]
  }

  /** Waits until the peer is connected to `count` others. */
  async joined(count = 1, timeoutMs = PATIENCE_MS): Promise<void> {
    await waitUntil(
      `${count} connected peers of ${this.home}`,
      async () => (await this.json(['status'])).peers >= count,
      { timeoutMs, details: () => this.process.tail() }
    )
  }

  /** SIGKILL: no goodbye. */
  async kill(): Promise<void> {
    await this.process.stop('SIGKILL')
  }

  async stop(): Promise<void> {
    const exit = await this.process.stop('SIGTERM')
    if (exit.status !== 0) throw new Error(`rowan up left with ${exit.signal ?? exit.status}\n${this.process.tail()}`)
  }
}

/** `[CODE]` of the one line of error that a failed command prints; throws if there is not exactly one. */
export function errorCode(result: CommandResult): string {
  const lines = result.stderr.split('\n').filter(line => line.startsWith('error: '))
  const code = lines[0]?.match(/ \[([A-Z_]+)\]$/)?.[1]
  if (lines.length !== 1 || code === undefined) {
    throw new Error(`not one clear line of error (status ${result.status}):\n${result.stderr}\n${result.stdout}`)
  }
  return code
}
