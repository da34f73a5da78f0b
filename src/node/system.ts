/**
 * The real clock, dice and log: the only ones of the program. All other code receives them (see environment.ts).
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Clock, Log, Random, Timer } from '../environment.ts'
import { RowanError } from '../errors.ts'

/** setTimeout fires at once for anything longer (2^31 - 1 ms, 24.8 days); longer waits are made of several. */
const MAX_TIMER_MS = 2 ** 31 - 1
const UTF8 = { encoding: 'utf8' } as const

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs: number, run: () => void): Timer {
    let timer: NodeJS.Timeout
    const wait = (leftMs: number) => {
      timer = setTimeout(
        () => (leftMs > MAX_TIMER_MS ? wait(leftMs - MAX_TIMER_MS) : run()),
        Math.min(Math.max(0, leftMs), MAX_TIMER_MS)
      )
      timer.unref()
    }
    wait(delayMs)
    return { cancel: () => clearTimeout(timer) }
  }
}

export const systemRandom: Random = {
  bytes: count => randomBytes(count),
  unit: () => Math.random()
}

/** From the most to the least talkative. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** One value of a log line longer than this is cut: a peer may have a say in it. */
const MAX_VALUE_CHARS = 300

/**
 * A log that writes one line per message: time, level, sentence, `name=value` pairs.
 *
 * @param level - the least important level that is written
 * @param write - where lines go; stderr unless told
 */
export function lineLog(level: LogLevel, write: (line: string) => void = line => process.stderr.write(line)): Log {
  const from = LOG_LEVELS.indexOf(level)
  const at = (which: Exclude<LogLevel, 'silent'>) => (message: string, values?: Record<string, unknown>) => {
    if (LOG_LEVELS.indexOf(which) < from) return
    write(`${new Date().toISOString()} ${which.padEnd(5)} ${oneLine(message)}${pairs(values)}\n`)
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn') }
}

function pairs(values: Record<string, unknown> | undefined): string {
  return Object.entries(values ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${shown(value)}`)
    .join('')
}

/** A value in one line, quoted where it has spaces, cut where it is long. */
function shown(value: unknown): string {
  const text = oneLine(asText(value))
  const cut = text.length > MAX_VALUE_CHARS ? `${text.slice(0, MAX_VALUE_CHARS)}…` : text
  return /[\s"=]/.test(cut) ? JSON.stringify(cut) : cut
}

function asText(value: unknown): string {
  if (value instanceof RowanError) return `[${value.code}] ${value.message}`
  if (value instanceof Error) return value.message
  if (typeof value === 'object' && value !== null) {
    return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? String(inner) : inner))
  }
  return String(value)
}

/** Without control characters: a line of the log cannot be forged, nor a terminal be steered, by what a peer says. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}

/**
 * An id of this run of the kernel: while it is the same, the page cache still holds what was written before a crash of
 * the daemon. Where the system does not tell, every start counts as a new run.
 */
export function readBootId(): string {
  try {
    if (process.platform === 'linux') return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    if (process.platform === 'darwin') return execFileSync('sysctl', ['-n', 'kern.bootsessionuuid'], UTF8).trim()
  } catch (error) {
    process.stderr.write(`the system does not tell its boot id: ${(error as Error).message}\n`)
  }
  return randomBytes(16).toString('hex')
}
