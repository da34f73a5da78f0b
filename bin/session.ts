/**
 * What all commands of one call share: the home, the way to the daemon, and where words go.
 *
 * stdout carries the answer: one JSON value with --json, else text. Everything else goes to stderr.
 */

import { resolve } from 'node:path'
import { RowanError } from '../src/errors.ts'
import type { Results } from '../src/node/command-results.ts'
import { ControlClient } from '../src/node/control-client.ts'
import type { Command, Params } from '../src/node/daemon-api.ts'
import { type HomePaths, homePaths, resolveHome } from '../src/node/home.ts'
import { MAX_TEXT_CHARS } from '../src/node/schema.ts'
import { ProgressView } from './progress.ts'

export class Session {
  readonly json: boolean
  readonly version: string
  /** Of a command that ended well but has something to tell, such as a guest that failed. */
  exitStatus = 0
  #home: HomePaths | undefined
  #failure: Error | undefined
  #unwritten = 0
  #written = Promise.withResolvers<void>()

  constructor(options: { json: boolean; version: string }) {
    this.json = options.json
    this.version = options.version
    // A reader that went away (`| head`) is no error.
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      this.#failure ??= error
    })
    // Nor does the work end where nobody takes the messages: a terminal that was closed, `2>&1 | head`, a full disk.
    // There is no other place to complain.
    process.stderr.on('error', () => undefined)
  }

  /** Called once the options are known. */
  useHome(option: string | undefined): void {
    // Else it would be the user's own (`--home "$UNSET"`).
    if (option === '') throw new RowanError('USAGE', 'the name of the home is empty')
    this.#home = homePaths(resolveHome(option))
  }

  get home(): HomePaths {
    this.#home ??= homePaths(resolveHome(undefined))
    return this.#home
  }

  get client(): ControlClient {
    return new ControlClient(this.home.controlSocket)
  }

  /** Asks the daemon, showing its progress. @throws RowanError USAGE for a text that it cannot take; the daemon's own */
  async call<C extends Command>(command: C, params: Params<C>): Promise<Results[C]> {
    checkTexts(params)
    const view = new ProgressView()
    try {
      return await this.client.call(command, params, { onProgress: progress => view.show(progress) })
    } finally {
      view.end()
    }
  }

  /** The command's answer: the value with --json, else the text. */
  answer(value: unknown, text: () => string): void {
    this.print(this.json ? JSON.stringify(value) : text())
  }

  print(line: string): void {
    this.#unwritten++
    process.stdout.write(`${line}\n`, error => {
      this.#failure ??= error ?? undefined
      if (--this.#unwritten === 0) this.#written.resolve()
    })
  }

  /** Waits until the answer is where it should be. @throws RowanError FILE_UNWRITABLE, for a full disk */
  async written(): Promise<void> {
    if (this.#unwritten > 0) await this.#written.promise
    this.#written = Promise.withResolvers()
    const cause = this.#failure
    if (cause !== undefined) {
      throw new RowanError('FILE_UNWRITABLE', `the answer could not be written: ${cause.message}`, { cause })
    }
  }

  /** A message to the person, beside the answer. */
  say(line: string): void {
    process.stderr.write(`${line}\n`)
  }
}

/** The absolute path of a file that was named, also for a daemon that stands elsewhere. @throws RowanError USAGE */
export function givenPath(path: string): string {
  // Else it would be the folder that one stands in.
  if (path === '') throw new RowanError('USAGE', 'the name of a file is empty')
  return resolve(path)
}

/** What is empty or endless was typed (`"$UNSET"`); the daemon would take it for another program's mistake. */
function checkTexts(params: object): void {
  for (const [name, value] of Object.entries(params)) {
    if (typeof value !== 'string' || (value !== '' && value.length <= MAX_TEXT_CHARS)) continue
    const says = value === '' ? 'is empty' : `has ${value.length} characters, more than ${MAX_TEXT_CHARS}`
    throw new RowanError('USAGE', `what was given as ${name} ${says}`)
  }
}
