import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { blockCount, isZero } from '../../../src/image/block.ts'

test.each([0, 1, 511, 4096, BLOCK_SIZE_BYTES - 1, BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES + 1, 3 * BLOCK_SIZE_BYTES + 7])(
  'finds any byte that is not zero among %i',
  length => {
    const bytes = new Uint8Array(length)
    expect(isZero(bytes)).toBe(true)
    for (const at of [0, 1, length >> 1, length - 2, length - 1]) {
      if (at < 0 || at >= length) continue
      bytes[at] = 1
      expect(isZero(bytes), `byte ${at}`).toBe(false)
      bytes[at] = 0
    }
    expect(isZero(bytes)).toBe(true)
  }
)

test('looks at its own bytes of a larger buffer only', () => {
  const buffer = Buffer.alloc(BLOCK_SIZE_BYTES * 3, 1)
  buffer.fill(0, BLOCK_SIZE_BYTES, 2 * BLOCK_SIZE_BYTES)
  expect(isZero(buffer.subarray(BLOCK_SIZE_BYTES, 2 * BLOCK_SIZE_BYTES))).toBe(true)
  expect(isZero(buffer.subarray(BLOCK_SIZE_BYTES, 2 * BLOCK_SIZE_BYTES + 1))).toBe(false)
})

test('counts a short last block', () => {
  expect(blockCount(1)).toBe(1)
  expect(blockCount(BLOCK_SIZE_BYTES)).toBe(1)
  expect(blockCount(BLOCK_SIZE_BYTES + 1)).toBe(2)
  expect(blockCount(8 * 1024 ** 4)).toBe(2 ** 27)
})
