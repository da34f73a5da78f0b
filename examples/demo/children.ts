/**
 * The demo's child processes: every one of them ends with the demo, by its pid.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'

/** How long a child gets to leave by itself. */
const LEAVE_MS = 10_000
const MAX_KEPT_CHARS = 1024 * 1024

/** Something went wrong in a way that a person can be told in a sentence. */
export class DemoError extends Error {
  override readonly name = 'DemoError'
}

const children = new Set<ChildProcess>()

export interface ChildOptions {
  cwd?: string
  /** stderr (and stdout, unless `onLine` takes it) is appended to this file. */
  logFile?: string
  /** Called with each line of stdout. */
  onLine?: (line: string) => void
  /** stderr goes straight to the terminal: the program draws its own progress there. */
  showStderr?: boolean
}

export interface Child {
  readonly process: ChildProcess
  /** The end of what it wrote to stderr. */
  stderr(): string
  readonly left: Promise<number>
}

/** Starts a program; `left` gives its status (128 and more for a signal, 127 if it could not be started). */
export function startChild(file: string, args: string[], options: ChildOptions = {}): Child {
  const child = spawn(file, args, {
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', options.showStderr === true ? 'inherit' : 'pipe']
  })
  children.add(child)
  const log = options.logFile === undefined ? undefined : createWriteStream(options.logFile, { flags: 'a' })
  let stderr = ''
  let pending = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    if (options.onLine === undefined) log?.write(text)
    const lines = (pending + text).split('\n')
    pending = lines.pop() ?? ''
    for (const line of lines) options.onLine?.(line)
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log?.write(text)
    stderr = (stderr + text).slice(-MAX_KEPT_CHARS)
  })
  const left = new Promise<number>(resolve => {
    const leave = (status: number) => {
      children.delete(child)
      log?.end()
      if (pending !== '') options.onLine?.(pending)
      resolve(status)
    }
    child.once('error', error => {
      stderr += error.message
      leave(127)
    })
    child.once('close', (status, signal) => leave(status ?? (signal === null ? 1 : 128)))
  })
  return { process: child, stderr: () => stderr, left }
}

/** Runs a program to its end. @throws DemoError with the end of what it wrote to stderr */
export async function runChild(file: string, args: string[], options: ChildOptions = {}): Promise<void> {
  const child = startChild(file, args, options)
  const status = await child.left
  if (status !== 0) {
    const said = child.stderr().trim().split('\n').slice(-12).join('\n')
    throw new DemoError(`${file} ${args.join(' ')} failed with status ${status}${said === '' ? '' : `:\n${said}`}`)
  }
}

/** Asks one child to leave, and makes it after a while. */
export async function endChild(child: Child, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  child.process.kill(signal)
  const timer = setTimeout(() => child.process.kill('SIGKILL'), LEAVE_MS)
  await child.left
  clearTimeout(timer)
}

/** Ends whatever still runs; the latest first, so that a guest goes before its disk's server. */
export async function endChildren(): Promise<void> {
  for (const child of [...children].reverse()) {
    const left = new Promise(resolve => child.once('close', resolve))
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), LEAVE_MS)
    await left
    clearTimeout(timer)
  }
}

/** Ctrl-C and SIGTERM end every child, then the demo. */
export function endChildrenOnSignals(): void {
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129]
  ] as const) {
    process.once(signal, () => {
      console.error(`\n${signal}: ending the peers and the guest …`)
      void endChildren().finally(() => process.exit(status))
    })
  }
  process.on('exit', () => {
    for (const child of children) child.kill('SIGKILL')
  })
}
