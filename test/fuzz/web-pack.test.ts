/** Whatever a web server gives as a range index: refused with its code, or ranges that lie within the pack and one behind the other. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RowanError } from '../../src/errors.ts'
import { decodeRangeIndex, encodeRangeIndex } from '../../src/image/web-pack.ts'

const SEED = 20_261_121
const lengths = fc.array(fc.oneof(fc.nat(65_536), fc.constant(0)), { minLength: 1, maxLength: 1024 })
const edits = fc.array(fc.tuple(fc.nat(4200), fc.nat(255)), { maxLength: 4 })

test('a damaged range index is refused, or is what it says', () => {
  let [accepted, refused] = [0, 0]
  fc.assert(
    fc.property(lengths, fc.nat(2 ** 17), edits, fc.integer({ min: -3, max: 3 }), (each, page, changes, longer) => {
      const whole = encodeRangeIndex(page, each)
      const bytes = new Uint8Array(whole.byteLength + longer)
      bytes.set(whole.subarray(0, bytes.byteLength))
      for (const [at, value] of changes) if (at < bytes.byteLength) bytes[at] = value
      try {
        const index = decodeRangeIndex(bytes, { page, blocks: each.length })
        accepted++
        const read = each.map((_, block) => index.length(block))
        for (const length of read) expect(length).toBeLessThanOrEqual(65_536)
        expect(index.start(0)).toBe(bytes.byteLength)
        // One encoding each: what is read writes the same bytes.
        expect(Buffer.compare(encodeRangeIndex(page, read), bytes)).toBe(0)
      } catch (error) {
        if (!(error instanceof RowanError)) throw error
        expect(error.code).toBe('WEB_SEED_INVALID')
        refused++
      }
    }),
    { seed: SEED, numRuns: 3_000 }
  )
  expect(Math.min(accepted, refused)).toBeGreaterThan(100)
})

test('any bytes are refused with the code', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5_000 }), fc.nat(1_100), (bytes, blocks) => {
      expect(() => decodeRangeIndex(bytes, { page: 0, blocks })).toThrow(RowanError)
    }),
    { seed: SEED, numRuns: 2_000 }
  )
})
