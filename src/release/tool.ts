/**
 * Runs a program of the host for a moment: bounded output, ended when the work is called off.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { RowanError } from '../errors.ts'

/** The end of stderr that is kept for a message. */
const MAX_ERROR_BYTES = 4096

export interface ToolCall {
  file: string
  args: string[]
  /** The Debian package that has it, for TOOL_MISSING. */
  package: string
  /** A file of ours that the program finds as /dev/fd/3, whatever became of its name meanwhile. */
  fd?: number
  /** More output than this ends the program. */
  maxOutputBytes: number
  /** Sees the output as it comes, instead of its being kept. */
  onOutput?: (text: string) => void
  signal?: AbortSignal | undefined
}

export interface ToolResult {
  /** Exit status; null when a signal ended it. */
  status: number | null
  output: Buffer
  /** Whether it was ended because it wrote more than `maxOutputBytes`. */
  overflowed: boolean
  errorText: string
}

/** Where a program finds the `fd` of its call. */
export const FD_PATH = '/dev/fd/3'

/**
 * Resolves when the program has ended, with whatever status.
 *
 * @throws RowanError TOOL_MISSING, ABORTED (once the program is gone)
 */
export function runTool(call: ToolCall): Promise<ToolResult> {
  const { file, args, fd, maxOutputBytes, onOutput, signal } = call
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(new RowanError('ABORTED', `${file} was not started`))
    const stdio = ['ignore', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])] as ('ignore' | 'pipe' | number)[]
    const child: ChildProcess = spawn(file, args, { stdio, env: { ...process.env, LC_ALL: 'C' } })
    const kept: Buffer[] = []
    let outputBytes = 0
    let overflowed = false
    let errorText = ''
    const stop = () => child.kill('SIGKILL')
    signal?.addEventListener('abort', stop, { once: true })
    child.stdout!.on('data', (bytes: Buffer) => {
      outputBytes += bytes.length
      if (outputBytes > maxOutputBytes) {
        overflowed = true
        stop()
      } else if (onOutput === undefined) kept.push(bytes)
      else onOutput(bytes.toString('latin1'))
    })
    child.stderr!.on('data', (bytes: Buffer) => {
      errorText = (errorText + bytes.toString('utf8')).slice(-MAX_ERROR_BYTES)
    })
    child.once('error', (cause: NodeJS.ErrnoException) => {
      signal?.removeEventListener('abort', stop)
      const missing = cause.code === 'ENOENT'
      const says = missing ? 'is not installed' : `cannot be started: ${cause.message}`
      reject(new RowanError('TOOL_MISSING', `${file} ${says}; install the Debian package ${call.package}`, { cause }))
    })
    child.once('close', status => {
      signal?.removeEventListener('abort', stop)
      if (signal?.aborted === true) return reject(new RowanError('ABORTED', `${file} was stopped`))
      resolve({ status, output: Buffer.concat(kept), overflowed, errorText: errorText.trim() })
    })
  })
}
