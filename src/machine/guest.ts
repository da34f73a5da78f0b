/**
 * A guest in QEMU, as a child of the command line: it outlives the daemon, whose restart only pauses its disk. It does not
 * outlive the command line, however that ends.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { constants as systemConstants } from 'node:os'
import type { Clock } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { endingWithParent } from './parent-death.ts'

export interface GuestEnd {
  /** QEMU's exit status; 128 + the number of the signal that ended it. */
  exit: number
  seconds: number
}

export interface GuestOptions {
  file: string
  args: string[]
  /** Sends QEMU's stdout, the guest's console, to our stderr: stdout is kept for a JSON answer. */
  consoleToStderr: boolean
}

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Runs QEMU until the guest is gone; SIGINT, SIGTERM and SIGHUP of this process are passed on to it, and a second one of
 * them ends it at once.
 *
 * @throws RowanError TOOL_MISSING
 */
export async function runGuest(components: { clock: Clock }, options: GuestOptions): Promise<GuestEnd> {
  const { clock } = components
  const startedMs = clock.monotonicMs()
  let child: ChildProcess | undefined
  let isAsked = false
  // QEMU writes down what it has before it leaves, and for that it waits for a daemon that is away: five minutes. Whoever
  // asks again does not want to.
  const passOn = (signal: NodeJS.Signals) => {
    child?.kill(isAsked ? 'SIGKILL' : signal)
    isAsked = true
  }
  // before the guest starts: it may be answered with a signal before we get to run again
  for (const signal of PASSED_ON) process.on(signal, passOn)
  const { file, args } = endingWithParent(options)
  const guest = spawn(file, args, {
    stdio: ['inherit', options.consoleToStderr ? 2 : 'inherit', 'inherit']
  })
  child = guest
  try {
    const exit = await new Promise<number>((resolve, reject) => {
      guest.once('error', reject)
      guest.once('exit', (code, signal) => resolve(code ?? 128 + systemConstants.signals[signal!]))
    })
    return { exit, seconds: (clock.monotonicMs() - startedMs) / 1000 }
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const why = isMissing ? 'is not installed' : `cannot be started: ${(error as Error).message}`
    const says = `${options.file} ${why}; install the package qemu-system-x86`
    throw new RowanError('TOOL_MISSING', says, { cause: error })
  } finally {
    for (const signal of PASSED_ON) process.off(signal, passOn)
  }
}

/** Whether KVM can be tried. */
export function kvmUsable(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    return true
  } catch {
    // Absent or not for this user: the guest runs without it.
    return false
  }
}
