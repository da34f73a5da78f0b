import fc from 'fast-check'
import { expect, test } from 'vitest'
import { splitLines } from '../../../src/node/split-lines.ts'

async function linesOf(chunks: string[], maxChars = 100): Promise<string[]> {
  const lines: string[] = []
  for await (const line of splitLines(from(chunks), maxChars)) lines.push(line)
  return lines
}

async function* from(chunks: string[]): AsyncGenerator<string> {
  yield* chunks
}

test('lines come out as they went in, however they were cut', async () => {
  const property = fc.asyncProperty(
    fc.array(fc.string({ maxLength: 20 }).map(line => line.replaceAll('\n', ''))),
    fc.integer({ min: 1, max: 7 }),
    async (lines, size) => {
      const text = lines.map(line => `${line}\n`).join('')
      const chunks = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []
      expect(await linesOf(chunks)).toEqual(lines)
    }
  )
  await fc.assert(property, { seed: 1, numRuns: 300 })
})

test('a last line without an end is dropped', async () => {
  expect(await linesOf(['a\nb'])).toEqual(['a'])
})

test('a line without an end in sight is refused', async () => {
  await expect(linesOf(['x'.repeat(60), 'x'.repeat(60)])).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
})
