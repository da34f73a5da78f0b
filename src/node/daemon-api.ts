/**
 * The contract between the command line and the daemon: the commands, and what goes in. What comes out is in command-results.ts.
 *
 * The parameters are a table of schemas, so that their types and their checks are one thing.
 *
 * Goes over HOME/control.sock: see control-server.ts for the form.
 */
import type { Log } from '../environment.ts'
import type { Progress, Results } from './command-results.ts'
import type { HomePaths } from './home.ts'
import { type Checked, check, flag, labels, optional, text, texts, wholeNumber } from './schema.ts'
import type { Settings } from './settings.ts'

// ---- Parameters

const PARAMS = {
  publish: {
    /** Absolute: the daemon has another working directory. */
    path: text,
    name: text,
    version: text,
    channel: optional(text),
    rollout: optional(wholeNumber),
    labels: optional(labels),
    /** Boots the image once, and ships the profile of the boot. */
    record: optional(flag),
    /** URLs that peers may fetch the image's files from. */
    webSeeds: optional(texts)
  },
  replicate: { appliance: text, wait: optional(flag), allowExpired: optional(flag) },
  'replicate-end': { appliance: text },
  attach: {
    machine: text,
    /** A reference like `grid@v2`; absent: the machine must exist. */
    appliance: optional(text),
    /** Absent: as the machine was last time, read-write if new. */
    readOnly: optional(flag),
    allowExpired: optional(flag),
    /** Bytes: it gets a data disk, if it has none. */
    dataDisk: optional(wholeNumber),
    /** PORT, HOST:PORT or `none`; absent: as it was last time. */
    tcp: optional(text)
  },
  detach: { machine: text },
  remove: { machine: text, force: optional(flag) },
  snapshot: { machine: text, note: optional(text) },
  snapshots: { machine: text },
  rollback: { machine: text, snapshot: text },
  discard: { machine: text, snapshot: text },
  export: {
    machine: text,
    /** Absolute: the daemon has another working directory. */
    file: text,
    /** raw or qcow2. */
    format: optional(text),
    /** Absent: as the machine is now. */
    snapshot: optional(text),
    /** system, if absent, or data. */
    disk: optional(text)
  },
  'export-web': {
    appliance: text,
    /** Absolute; the image gets a folder in it. */
    folder: text
  },
  releases: { appliance: text },
  gc: {
    dryRun: optional(flag),
    /** NAME@VERSION, or VERSION where one appliance has it. */
    force: optional(text)
  },
  status: {},
  trace: { machine: text },
  limit: {
    /** As written: "5Mbit". Absent: as it is. */
    maxUpload: optional(text),
    maxDownload: optional(text),
    hours: optional(text),
    metered: optional(flag),
    /** Gives up former changes first. */
    reset: optional(flag)
  },
  follow: { appliance: text, alias: text },
  doctor: {},
  'key-show': {},
  'key-export': { file: text },
  'key-import': { file: text, replace: optional(flag) },
  'key-renew': {},
  'key-rotate': {}
} as const

export type Command = keyof typeof PARAMS
export type Params<C extends Command> = Checked<(typeof PARAMS)[C]>

// ---- Handlers

export interface CommandContext {
  /** Fires when the client went away or the daemon stops. */
  signal: AbortSignal
  /** May be called as often as one likes: what the client does not read in time is dropped. */
  progress(progress: Progress): void
}

export type Handlers = {
  [C in Command]: (params: Params<C>, context: CommandContext) => Promise<Results[C]>
}

export type CommandTable = Record<string, (params: unknown, context: CommandContext) => Promise<unknown>>

/** Typed handlers as the table that a control server serves: each checks its parameters first. */
export function commandTable(handlers: Handlers): CommandTable {
  const table: CommandTable = {}
  for (const [name, schema] of Object.entries(PARAMS)) {
    const handler = handlers[name as Command] as CommandTable[string]
    table[name] = async (params, context) => handler(check(schema, params, name), context)
  }
  return table
}

// ---- The daemon itself (node/daemon.ts)

export interface DaemonOptions {
  home: HomePaths
  settings: Settings
  log: Log
  /** Name and version of the program, for `ping` and for identify. */
  version: string
}

/** What `rowan up --json` prints. */
export interface UpResult {
  peer: string
  publisher: string
  /** Each ends in /p2p/ID. */
  addresses: string[]
  /** The control socket's path. */
  control: string
}

export interface RunningDaemon extends UpResult {
  /** Ends connections, serves no more, makes durable what must be, closes the store. */
  stop(): Promise<void>
}

export type StartDaemon = (options: DaemonOptions) => Promise<RunningDaemon>
