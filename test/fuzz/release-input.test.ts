/**
 * Whatever a file holds, the parsers of image headers, extents and keys answer with a value or with one of their errors.
 */

import { generateKeyPair } from '@libp2p/crypto/keys'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { RowanError } from '../../src/errors.ts'
import { dataRanges } from '../../src/release/data-ranges.ts'
import { imageFormat } from '../../src/release/image-format.ts'
import { keyFromText, keyToText } from '../../src/release/key-file.ts'
import { checkQcow2 } from '../../src/release/qcow2-header.ts'

const RUNS = { numRuns: 20_000, seed: 20_261_121 }

/** A header of version 2 or 3 that is in order, before something is changed in it. */
function soundHeader(): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeUInt32BE(0x514649fb, 0)
  bytes.writeUInt32BE(3, 4)
  bytes.writeUInt32BE(16, 20)
  bytes.writeBigUInt64BE(1n << 30n, 24)
  bytes.writeUInt32BE(104, 100)
  return bytes
}

const changes = fc.array(fc.tuple(fc.integer({ min: 4, max: 511 }), fc.integer({ min: 0, max: 255 })), { maxLength: 8 })

describe('qcow2 headers', () => {
  const CODES = ['IMAGE_FORMAT', 'IMAGE_HAS_BACKING', 'IMAGE_EMPTY', 'IMAGE_TOO_LARGE']

  test('no header that is changed somewhere gets past with a reference to another file', () => {
    fc.assert(
      fc.property(changes, fc.integer({ min: 4, max: 512 }), (edits, length) => {
        const bytes = soundHeader()
        for (const [at, value] of edits) bytes[at] = value
        try {
          const { sizeBytes } = checkQcow2(bytes.subarray(0, length), length, 'x')
          expect(sizeBytes).toBeGreaterThan(0)
          expect(bytes.readBigUInt64BE(8)).toBe(0n)
          if (bytes.readUInt32BE(4) === 3) expect(bytes.readBigUInt64BE(72) & 4n).toBe(0n)
        } catch (error) {
          if (!(error instanceof RowanError)) throw error
          expect(CODES).toContain(error.code)
          expect(error.message.length).toBeLessThan(600)
        }
      }),
      RUNS
    )
  })

  test('nor do bytes by chance', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2048 }), bytes => {
        try {
          checkQcow2(bytes, bytes.length, 'x')
        } catch (error) {
          if (!(error instanceof RowanError)) throw error
          expect(CODES).toContain(error.code)
        }
      }),
      RUNS
    )
  })
})

test('every file is raw, qcow2 or refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 512 }), (start, end) => {
      try {
        expect(['raw', 'qcow2']).toContain(imageFormat(start, end, 'x'))
      } catch (error) {
        expect(error).toMatchObject({ code: 'IMAGE_FORMAT' })
      }
    }),
    RUNS
  )
})

describe('extents', () => {
  const SIZE = 100 * BLOCK_SIZE_BYTES

  test('a list that covers the file gives every block with data, and the fewest ranges', () => {
    const extents = fc.array(fc.tuple(fc.integer({ min: 1, max: 400_000 }), fc.boolean()), { minLength: 1 })
    fc.assert(
      fc.property(extents, lengths => {
        let start = 0
        const list = lengths.map(([length, data]) => {
          const extent = { start, length, data, zero: !data }
          start += length
          return extent
        })
        const ranges = dataRanges(JSON.stringify(list), start, BLOCK_SIZE_BYTES)!
        const inRange = (block: number) => ranges.some(({ from, to }) => from <= block && block < to)
        const hasData = (block: number) =>
          list.some(
            extent =>
              extent.data &&
              extent.start < (block + 1) * BLOCK_SIZE_BYTES &&
              extent.start + extent.length > block * BLOCK_SIZE_BYTES
          )
        for (let block = 0; block < Math.ceil(start / BLOCK_SIZE_BYTES); block++) {
          expect(inRange(block)).toBe(hasData(block))
        }
        for (const [index, { from }] of ranges.entries()) {
          if (index > 0) expect(from).toBeGreaterThan(ranges[index - 1]!.to)
        }
      }),
      { ...RUNS, numRuns: 1000 }
    )
  })

  test('anything else gives no ranges, or ranges within the file', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.array(extentLike()).map(list => JSON.stringify(list))
        ),
        json => {
          const ranges = dataRanges(json, SIZE, BLOCK_SIZE_BYTES) ?? []
          for (const { from, to } of ranges) {
            expect(from).toBeGreaterThanOrEqual(0)
            expect(to).toBeLessThanOrEqual(100)
            expect(from).toBeLessThan(to)
          }
        }
      ),
      { ...RUNS, numRuns: 5000 }
    )
  })

  function extentLike() {
    const number = fc.oneof(fc.constantFrom(0, 65_536, SIZE, SIZE + 65_536), fc.double(), fc.integer())
    return fc.record({ start: number, length: number, data: fc.boolean(), zero: fc.boolean() }, { requiredKeys: [] })
  }
})

test('a key file that is changed anywhere is refused, or holds the same key', async () => {
  const key = await generateKeyPair('Ed25519')
  const text = keyToText('root', key)
  const edit = fc.tuple(fc.integer({ min: 0, max: text.length - 1 }), fc.string({ maxLength: 3 }))
  await fc.assert(
    fc.asyncProperty(edit, async ([at, insert]) => {
      const changed = text.slice(0, at) + insert + text.slice(at + 1)
      try {
        expect((await keyFromText('root', changed, 'x')).equals(key)).toBe(true)
      } catch (error) {
        expect(error).toMatchObject({ code: 'KEY_INVALID' })
      }
    }),
    { ...RUNS, numRuns: 1000 }
  )
})
