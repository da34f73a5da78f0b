/** Newline-delimited text, piece by piece as it comes. */
import { RowanError } from '../errors.ts'

/**
 * The lines of a text, without their ends; what follows the last newline is dropped as incomplete.
 *
 * @throws RowanError LIMIT_EXCEEDED when a line is longer than `maxChars`
 */
export async function* splitLines(source: AsyncIterable<string>, maxChars: number): AsyncGenerator<string> {
  let pending = ''
  for await (const chunk of source) {
    pending += chunk
    let start = 0
    for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n', start)) {
      yield pending.slice(start, end)
      start = end + 1
    }
    pending = pending.slice(start)
    if (pending.length > maxChars) {
      throw new RowanError('LIMIT_EXCEEDED', `an answer line is longer than ${maxChars} characters`)
    }
  }
}
