/**
 * The three things that only the outside can give: time, chance, and a place to complain.
 *
 * Everything below `node` receives them through its constructor, so that a test or the simulator can hold the clock
 * and replay the dice. The real ones are made in node/system.ts.
 */

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall time in milliseconds since the epoch; may jump. For expiries that other peers read. */
  now(): number
  /** Milliseconds that never go back. For durations and time-outs. */
  monotonicMs(): number
  /** Calls `run` once, after `delayMs`. Never keeps the process alive by itself. */
  after(delayMs: number, run: () => void): Timer
}

export interface Random {
  bytes(count: number): Uint8Array
  /** A number in [0, 1). */
  unit(): number
}

/** A log line has a level, a sentence for a person, and the values that the sentence speaks of. */
export interface Log {
  debug(message: string, values?: Record<string, unknown>): void
  info(message: string, values?: Record<string, unknown>): void
  warn(message: string, values?: Record<string, unknown>): void
}
