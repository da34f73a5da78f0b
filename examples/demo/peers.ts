/**
 * The demo's three peers: each a `rowan up` of its own, with a home of its own; and the commands sent to them.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { RowanError } from '../../src/errors.ts'
import type { Results, StatusResult } from '../../src/node/command-results.ts'
import { ControlClient } from '../../src/node/control-client.ts'
import type { Command, UpResult } from '../../src/node/daemon-api.ts'
import { type Child, DemoError, startChild } from './children.ts'
import { say } from './progress.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const ROWAN = join(ROOT, 'bin/rowan')
const ROLES = ['publisher', 'replica', 'volunteer'] as const
type Role = (typeof ROLES)[number]
const READY_TIMEOUT_MS = 60_000
/** A socket's path has at most 107 bytes, and the longest one in a home is this. */
const MAX_HOME_BYTES = 107 - Buffer.byteLength('/control.sock')

/**
 * An empty folder for the homes: the one asked for, else .demo in the checkout, else (where that path is too long for
 * sockets) a temporary one. What an earlier demo left there is removed. @throws DemoError if one runs there now
 */
export async function freshDemoFolder(wanted: string | undefined): Promise<string> {
  const folder = wanted === undefined ? join(ROOT, '.demo') : resolve(process.env.INIT_CWD ?? process.cwd(), wanted)
  if (Buffer.byteLength(join(folder, ROLES[0])) > MAX_HOME_BYTES) {
    const short = mkdtempSync(join(tmpdir(), 'rowan-demo-'))
    say(`The path ${folder} is too long for Unix sockets: the peers live in ${short}`)
    return short
  }
  for (const role of ROLES) {
    const home = join(folder, role)
    if (!existsSync(home)) continue
    if (await isRunning(join(home, 'control.sock'))) {
      throw new DemoError(`another demo is running in ${folder}; end it with Ctrl-C first`)
    }
    rmSync(home, { recursive: true })
  }
  for (const name of ['console.log', 'run.log', 'qemu.pid', ...ROLES.map(role => `${role}.log`)]) {
    rmSync(join(folder, name), { force: true })
  }
  mkdirSync(folder, { recursive: true })
  return folder
}

async function isRunning(controlSocket: string): Promise<boolean> {
  try {
    return (await new ControlClient(controlSocket).ping()).ok
  } catch (error) {
    if (error instanceof RowanError && error.code === 'DAEMON_NOT_RUNNING') return false
    throw error
  }
}

export class DemoPeer {
  readonly role: Role
  readonly home: string
  readonly logFile: string
  readonly up: UpResult
  readonly child: Child

  private constructor(role: Role, home: string, logFile: string, up: UpResult, child: Child) {
    this.role = role
    this.home = home
    this.logFile = logFile
    this.up = up
    this.child = child
  }

  /** Starts the peer and waits until it is ready. @throws DemoError with the end of its log */
  static async start(folder: string, role: Role, bootstrap: DemoPeer[]): Promise<DemoPeer> {
    const home = join(folder, role)
    const logFile = join(folder, `${role}.log`)
    const joins = bootstrap.flatMap(peer => ['--bootstrap', peer.up.addresses[0] ?? ''])
    const args = ['up', '--json', '--home', home, '--listen', '/ip4/127.0.0.1/tcp/0', ...joins]
    let tellReady = (_: UpResult) => {}
    const ready = new Promise<UpResult>(resolve => {
      tellReady = resolve
    })
    const onLine = (line: string) => {
      const answer = JSON.parse(line) as UpResult | { error: unknown }
      if (!('error' in answer)) tellReady(answer) // an error is on stderr too, and the peer leaves
    }
    const child = startChild(ROWAN, args, { logFile, onLine })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new DemoError(`the ${role} was not ready within a minute; see ${logFile}`)),
        READY_TIMEOUT_MS
      )
    })
    const gone = child.left.then(status => {
      throw new DemoError(`the ${role} left with status ${status} before it was ready:\n${child.stderr().slice(-1500)}`)
    })
    try {
      const up = await Promise.race([ready, late, gone])
      say(`${role.padEnd(9)}  ${up.peer}  ${up.addresses[0] ?? ''}`)
      return new DemoPeer(role, home, logFile, up, child)
    } finally {
      clearTimeout(timer)
    }
  }

  /** The command as a person would type it. */
  typed(args: string[]): string {
    return `npx rowan --home ${this.home} ${args.join(' ')}`
  }

  /** What `rowan status` says, asked without a process of its own, because the demo asks twice a second. */
  async status(): Promise<StatusResult> {
    return await new ControlClient(this.up.control).call('status', {})
  }

  /** Runs a command against this peer; its progress shows on the terminal. @throws DemoError with its line of error */
  async command<C extends Command>(args: [C, ...string[]]): Promise<Results[C]> {
    say(`$ ${this.typed(args)}`)
    let stdout = ''
    const child = startChild(ROWAN, ['--json', '--home', this.home, ...args], {
      onLine: line => {
        stdout += line
      },
      showStderr: process.stderr.isTTY === true
    })
    const status = await child.left
    if (status !== 0) {
      throw new DemoError(
        `\`${this.typed(args)}\` failed:\n${child.stderr().trim()}\n\nThe ${this.role}'s log: ${this.logFile}`
      )
    }
    return JSON.parse(stdout) as Results[C]
  }
}
