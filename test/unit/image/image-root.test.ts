import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES, MAX_IMAGE_BYTES } from '../../../src/cluster.ts'
import { childCount, heightOf, nodeCount, positionAt } from '../../../src/image/geometry.ts'
import { sha256 } from '../../../src/image/hash.ts'
import {
  decodeImageRoot,
  encodeImageRoot,
  imageIdOf,
  MAX_ROOT_BYTES,
  makeImageRoot
} from '../../../src/image/image-root.ts'
import { ImageRoot as RootMessage } from '../../../src/image/proto/index.js'
import { withCode } from './with-code.ts'

const TOP = new Uint8Array(sha256(Buffer.from('top')))

test.each([
  [1, 0, TOP],
  [1_610_612_736, 13_000, TOP],
  [MAX_IMAGE_BYTES, 2 ** 27 - 1, TOP],
  [BLOCK_SIZE_BYTES * 5 + 1, 6, undefined]
])('a root of %i bytes with %i zero blocks comes back as it was', (sizeBytes, zeroBlocks, top) => {
  const root = makeImageRoot(sizeBytes, zeroBlocks, top)
  const bytes = encodeImageRoot(root)
  expect(bytes.byteLength).toBeLessThanOrEqual(MAX_ROOT_BYTES)
  const decoded = decodeImageRoot(bytes)
  expect(decoded).toEqual({ ...root, top: top && expect.anything() })
  expect(decoded.top && Buffer.from(decoded.top)).toEqual(top && Buffer.from(top))
})

test('the id depends on size, zero blocks and top', () => {
  const ids = [
    makeImageRoot(100_000, 0, TOP),
    makeImageRoot(100_001, 0, TOP),
    makeImageRoot(100_000, 1, TOP),
    makeImageRoot(100_000, 0, sha256(TOP))
  ].map(root => imageIdOf(encodeImageRoot(root)))
  expect(new Set(ids).size).toBe(4)
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{64}$/)
})

const parts = { format: 1, sizeBytes: 200_000, zeroBlocks: 1, top: TOP }
const good = RootMessage.encode(parts)
test.each<[string, Uint8Array]>([
  ['no bytes', new Uint8Array(0)],
  ['another format', RootMessage.encode({ ...parts, format: 2 })],
  ['no size', RootMessage.encode({ ...parts, sizeBytes: 0 })],
  ['a size beyond the limit', RootMessage.encode({ ...parts, sizeBytes: MAX_IMAGE_BYTES + 1 })],
  ['more zero blocks than blocks', RootMessage.encode({ ...parts, zeroBlocks: 5 })],
  ['a top though all is zero', RootMessage.encode({ ...parts, zeroBlocks: 4 })],
  ['no top though not all is zero', RootMessage.encode({ format: 1, sizeBytes: 200_000, zeroBlocks: 3 })],
  ['a top that is no hash', RootMessage.encode({ ...parts, top: TOP.slice(1) })],
  ['a byte more', Buffer.concat([good, Uint8Array.of(0)])],
  ['an unknown field', Buffer.concat([good, Uint8Array.of(0x30, 1)])],
  ['a size beyond what a number can hold', Buffer.from('0801' + '10ffffffffffffffffff01', 'hex')],
  ['too many bytes', new Uint8Array(MAX_ROOT_BYTES + 1)]
])('refuses a root with %s', (_what, bytes) => {
  expect(() => decodeImageRoot(bytes)).toThrow(withCode('INDEX_INVALID'))
})

test.each([
  [1, 0, [1]],
  [1024, 0, [1]],
  [1025, 1, [2, 1]],
  [2 ** 20, 1, [1024, 1]],
  [2 ** 20 + 1, 2, [1025, 2, 1]],
  [2 ** 27, 2, [131_072, 128, 1]]
])('%i blocks make a tree of height %i', (blocks, height, counts) => {
  expect(heightOf(blocks)).toBe(height)
  for (const [level, count] of counts.entries()) expect(nodeCount(level, blocks)).toBe(count)
  for (let level = 0; level <= height; level++) {
    const last = nodeCount(level, blocks) - 1
    const below = level === 0 ? blocks : nodeCount(level - 1, blocks)
    expect(childCount(level, last, blocks)).toBe(below - last * 1024)
    if (last > 0) expect(childCount(level, 0, blocks)).toBe(1024)
    expect(positionAt(level, blocks - 1)).toBe(last)
    expect(positionAt(level, 0)).toBe(0)
  }
})
