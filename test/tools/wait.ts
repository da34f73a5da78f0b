/**
 * Waiting for something to become true, with a limit and a message that says what never came.
 *
 * The limit says nothing about how fast something must be: it only ends a test that would wait for ever. So it is long, and of a pause
 * in which others had the processor hardly anything counts. A test that means a time states it by itself.
 */
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 50
/** Of the pause between two looks only so many times its length is counted, however long the computer was at something else. */
const MAX_COUNTED = 2
export const PATIENCE_MS = 120_000

/**
 * Asks `condition` again and again until it returns something truthy, which becomes the answer.
 *
 * @param what - finishes the sentence "waited 120 s for …"
 * @param timeoutMs - PATIENCE_MS unless something takes longer, or must not come
 * @param details - more for the error, such as the end of a log
 */
export async function waitUntil<T>(
  what: string,
  condition: () => T | Promise<T>,
  options: { timeoutMs?: number; pollMs?: number; details?: () => string } = {}
): Promise<NonNullable<T>> {
  const { timeoutMs = PATIENCE_MS, pollMs = POLL_MS } = options
  let waitedMs = 0
  for (;;) {
    const askedMs = performance.now()
    const answer = await condition()
    if (answer) return answer as NonNullable<T>
    if (waitedMs > timeoutMs) {
      const details = options.details === undefined ? '' : `\n${options.details()}`
      throw new Error(`waited ${timeoutMs / 1000} s for ${what}${details}`)
    }
    const answeredMs = performance.now()
    await sleep(pollMs)
    waitedMs += answeredMs - askedMs + Math.min(performance.now() - answeredMs, MAX_COUNTED * pollMs)
  }
}
