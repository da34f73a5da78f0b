/** A log that remembers what was said. */
import type { Log } from '../../../../src/environment.ts'
import { RowanError } from '../../../../src/errors.ts'

export class MemoryLog implements Log {
  readonly lines: string[] = []

  debug(message: string, values?: Record<string, unknown>): void {
    this.#add('debug', message, values)
  }

  info(message: string, values?: Record<string, unknown>): void {
    this.#add('info', message, values)
  }

  warn(message: string, values?: Record<string, unknown>): void {
    this.#add('warn', message, values)
  }

  get warnings(): string[] {
    return this.lines.filter(line => line.startsWith('warn'))
  }

  #add(level: string, message: string, values: Record<string, unknown> = {}): void {
    const shown = Object.entries(values).map(([name, value]) => `${name}=${text(value)}`)
    this.lines.push([level, message, ...shown].join(' '))
  }
}

function text(value: unknown): string {
  return value instanceof RowanError ? `[${value.code}] ${value.message}` : String(value)
}
