/**
 * Child processes of a test: started, listened to, and always ended.
 *
 * Whatever happens in a test, no process may outlive it. So each one is in a registry; a test file calls
 * `afterEach(endProcesses)` or `afterAll(endProcesses)`, and when the worker itself leaves, what is left is killed by
 * its pid.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { PATIENCE_MS, waitUntil } from './wait.ts'

/** How much of each output is kept; the beginning goes first. */
const MAX_OUTPUT_CHARS = 8 * 1024 * 1024
const CLOSE_TIMEOUT_MS = 2000
const STOP_TIMEOUT_MS = 60_000

const running = new Set<RunningProcess>()

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface StartOptions {
  /** How errors call it; the program's name if absent. */
  name?: string
  cwd?: string
  env?: NodeJS.ProcessEnv
  /** For a program that starts others and does not end them (npx): a group of its own, which gets every signal. */
  group?: boolean
}

export interface Exit {
  status: number | null
  signal: NodeJS.Signals | null
}

export class RunningProcess {
  readonly name: string
  readonly child: ChildProcess
  readonly exited: Promise<Exit>
  stdout = ''
  stderr = ''
  exit: Exit | undefined
  readonly #isGroup: boolean

  constructor(file: string, args: string[], options: StartOptions = {}) {
    this.name = options.name ?? file
    this.#isGroup = options.group === true
    this.child = spawn(file, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      detached: this.#isGroup,
      stdio: ['pipe', 'pipe', 'pipe']
    })
    running.add(this)
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout = (this.stdout + text).slice(-MAX_OUTPUT_CHARS)
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-MAX_OUTPUT_CHARS)
    })
    // A process that is gone cannot be written to; its exit says what happened.
    this.child.stdin?.on('error', error => {
      this.stderr += `\n[stdin: ${error.message}]`
    })
    this.exited = new Promise(resolve => {
      const leave = (exit: Exit) => {
        this.exit ??= exit
        running.delete(this)
        resolve(this.exit)
      }
      this.child.on('error', error => {
        this.stderr += `\n[${error.message}]`
        leave({ status: 127, signal: null })
      })
      this.child.on('close', (status, signal) => leave({ status, signal }))
      // Somebody else may hold its outputs open: what it left behind must not hold up the test.
      this.child.on('exit', (status, signal) => {
        setTimeout(() => leave({ status, signal }), CLOSE_TIMEOUT_MS).unref()
      })
    })
  }

  get pid(): number {
    const pid = this.child.pid
    if (pid === undefined) throw new Error(`${this.name} did not start: ${this.stderr}`)
    return pid
  }

  /** Waits for a line of stdout (or stderr) that matches; fails at once when the process leaves without it. */
  async waitForOutput(
    pattern: RegExp,
    options: { timeoutMs?: number; from?: 'stdout' | 'stderr' } = {}
  ): Promise<RegExpMatchArray> {
    const { from = 'stdout', timeoutMs = PATIENCE_MS } = options
    return await waitUntil(
      `${pattern} from ${this.name}`,
      () => {
        const match = this[from].match(pattern)
        if (match === null && this.exit !== undefined) {
          throw new Error(`${this.name} left (${describeExit(this.exit)}) before ${pattern}\n${this.tail()}`)
        }
        return match
      },
      { timeoutMs, details: () => this.tail() }
    )
  }

  /** Sends a signal to this very process, or to its group; false when it is gone. */
  kill(signal: NodeJS.Signals): boolean {
    if (this.exit !== undefined || this.child.pid === undefined) return false
    return this.#isGroup ? process.kill(-this.child.pid, signal) : this.child.kill(signal)
  }

  /** Ends it politely, and by force if it does not go; says how it went. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs: number = STOP_TIMEOUT_MS): Promise<Exit> {
    this.kill(signal)
    const timer = setTimeout(() => this.kill('SIGKILL'), timeoutMs)
    const exit = await this.exited
    clearTimeout(timer)
    return exit
  }

  /** The end of both outputs, for an error message. */
  tail(lines = 20): string {
    const end = (text: string) => text.trimEnd().split('\n').slice(-lines).join('\n')
    return `--- ${this.name}, stdout:\n${end(this.stdout)}\n--- stderr:\n${end(this.stderr)}`
  }
}

function describeExit(exit: Exit): string {
  return exit.signal === null ? `status ${exit.status}` : `signal ${exit.signal}`
}

export function start(file: string, args: string[], options: StartOptions = {}): RunningProcess {
  return new RunningProcess(file, args, options)
}

/** Runs a program to its end, with a time-out; the status is the caller's to judge. */
export async function run(
  file: string,
  args: string[],
  options: StartOptions & { timeoutMs?: number; input?: string } = {}
): Promise<Exit & { stdout: string; stderr: string }> {
  const process = start(file, args, options)
  process.child.stdin?.end(options.input ?? '')
  const timeoutMs = options.timeoutMs ?? PATIENCE_MS
  let late = false
  const timer = setTimeout(() => {
    late = true
    process.kill('SIGKILL')
  }, timeoutMs)
  const exit = await process.exited
  clearTimeout(timer)
  if (late)
    throw new Error(`${process.name} ${args.join(' ')} took longer than ${timeoutMs / 1000} s\n${process.tail()}`)
  return { ...exit, stdout: process.stdout, stderr: process.stderr }
}

/** Runs a program that must succeed; returns its stdout. */
export async function runOk(file: string, args: string[], options: StartOptions & { timeoutMs?: number } = {}) {
  const result = await run(file, args, options)
  if (result.status !== 0) {
    throw new Error(`${file} ${args.join(' ')}: ${describeExit(result)}\n${result.stdout}\n${result.stderr}`)
  }
  return result.stdout
}

/** Ends everything that this worker started. For afterEach or afterAll. */
export async function endProcesses(): Promise<void> {
  await Promise.all([...running].map(child => child.stop('SIGKILL')))
}
