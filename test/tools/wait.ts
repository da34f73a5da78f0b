/**
 * Waiting for something to become true, with a limit and a message that says what never came.
 */
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 50

/**
 * Asks `condition` again and again until it returns something truthy, which becomes the answer.
 *
 * @param what - finishes the sentence "waited 30 s for …"
 * @param details - more for the error, such as the end of a log
 */
export async function waitUntil<T>(
  what: string,
  condition: () => T | Promise<T>,
  options: { timeoutMs: number; details?: () => string }
): Promise<NonNullable<T>> {
  const started = performance.now()
  for (;;) {
    const answer = await condition()
    if (answer) return answer as NonNullable<T>
    if (performance.now() - started > options.timeoutMs) {
      const details = options.details === undefined ? '' : `\n${options.details()}`
      throw new Error(`waited ${options.timeoutMs / 1000} s for ${what}${details}`)
    }
    await sleep(POLL_MS)
  }
}
