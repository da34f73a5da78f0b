import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES, MAX_IMAGE_BYTES } from '../../../src/cluster.ts'
import { type Hash, sha256, toHex } from '../../../src/image/hash.ts'
import { encodeImageRoot, imageIdOf, makeImageRoot } from '../../../src/image/image-root.ts'
import { IndexBuilder } from '../../../src/image/index-builder.ts'
import { encodeIndexNode } from '../../../src/image/index-node.ts'
import { withCode } from './with-code.ts'

const hashOf = (value: number): Hash => sha256(Buffer.from(String(value)))

/** The index by its definition: level after level, all in memory. */
function naiveIndex(hashes: (Hash | undefined)[], sizeBytes: number) {
  const nodes = new Map<string, Uint8Array>()
  let level = 0
  let below = hashes
  for (;;) {
    const above: (Hash | undefined)[] = []
    for (let at = 0; at < below.length; at += 1024) {
      const children = below.slice(at, at + 1024)
      if (children.every(child => child === undefined)) {
        above.push(undefined)
        continue
      }
      const bytes = encodeIndexNode({ level, children })
      above.push(sha256(bytes))
      nodes.set(toHex(sha256(bytes)), bytes)
    }
    if (above.length === 1) {
      const zeroBlocks = hashes.filter(hash => hash === undefined).length
      return { id: imageIdOf(encodeImageRoot(makeImageRoot(sizeBytes, zeroBlocks, above[0]))), nodes }
    }
    below = above
    level++
  }
}

function built(runs: { zero: boolean; count: number }[], sizeBytes?: number) {
  const nodes = new Map<string, Uint8Array>()
  const builder = new IndexBuilder((hash, bytes) => nodes.set(toHex(hash), bytes))
  const hashes: (Hash | undefined)[] = []
  for (const { zero, count } of runs) {
    if (zero) builder.addZero(count)
    for (let index = 0; index < count; index++) {
      const hash = zero ? undefined : hashOf(hashes.length)
      if (hash !== undefined) builder.add(hash)
      hashes.push(hash)
    }
  }
  const size = sizeBytes ?? hashes.length * BLOCK_SIZE_BYTES
  return { ...builder.finish(size), nodes, hashes, size }
}

test('an index is what its definition says, whatever runs of data and zeros make it', () => {
  const count = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(1023, 1024, 1025, 2048, 3000))
  const runs = fc.array(fc.record({ zero: fc.boolean(), count }), { minLength: 1, maxLength: 6 })
  fc.assert(
    fc.property(runs, description => {
      const image = built(description)
      const naive = naiveIndex(image.hashes, image.size)
      expect(image.id).toBe(naive.id)
      expect([...image.nodes.keys()].sort()).toEqual([...naive.nodes.keys()].sort())
    }),
    { numRuns: 60, seed: 20_261_121 }
  )
})

test.each([
  ['a block before a whole level of zeros', [1, 2 ** 20 + 5]],
  ['a block after a whole level of zeros', [0, 2 ** 20 + 5, 1]],
  ['blocks on both sides of whole subtrees', [1024, 2 ** 20 + 1024, 3]]
])('an index of three levels: %s', (_what, counts) => {
  const image = built(counts.map((count, index) => ({ zero: index % 2 === 1, count })))
  expect(image.root.height).toBe(2)
  const naive = naiveIndex(image.hashes, image.size)
  expect(image.id).toBe(naive.id)
  expect([...image.nodes.keys()].sort()).toEqual([...naive.nodes.keys()].sort())
})

test('8 TiB of zeros take no time and no node', () => {
  let emitted = 0
  const builder = new IndexBuilder(() => emitted++)
  builder.addZero(2 ** 27)
  const { root } = builder.finish(MAX_IMAGE_BYTES)
  expect(root).toEqual({ sizeBytes: MAX_IMAGE_BYTES, blocks: 2 ** 27, zeroBlocks: 2 ** 27, height: 2, top: undefined })
  expect(emitted).toBe(0)
})

test('a block at each end of 8 TiB makes five nodes', () => {
  let emitted = 0
  const builder = new IndexBuilder(() => emitted++)
  builder.add(hashOf(1))
  builder.addZero(2 ** 27 - 2)
  builder.add(hashOf(2))
  expect(builder.finish(MAX_IMAGE_BYTES).root.zeroBlocks).toBe(2 ** 27 - 2)
  expect(emitted).toBe(5)
})

test('equal contents have one id, whatever steps they came in', () => {
  const inOne = built([
    { zero: true, count: 5000 },
    { zero: false, count: 1 }
  ])
  const inMany = built([...Array.from({ length: 5000 }, () => ({ zero: true, count: 1 })), { zero: false, count: 1 }])
  expect(inMany.id).toBe(inOne.id)
})

test('a short last block does not change the tree, only the size', () => {
  const whole = built([{ zero: false, count: 3 }])
  const short = built([{ zero: false, count: 3 }], 2 * BLOCK_SIZE_BYTES + 1)
  expect(short.root.top && toHex(short.root.top)).toBe(whole.root.top && toHex(whole.root.top))
  expect(short.id).not.toBe(whole.id)
})

test('refuses a size that does not fit to the blocks', () => {
  const builder = new IndexBuilder(() => {})
  builder.addZero(3)
  expect(() => builder.finish(4 * BLOCK_SIZE_BYTES)).toThrow(withCode('INDEX_INVALID'))
  expect(() => builder.finish(0)).toThrow(withCode('INDEX_INVALID'))
  for (const count of [-1, 0.5, Number.NaN, 2 ** 27]) {
    expect(() => builder.addZero(count)).toThrow(withCode('INDEX_INVALID'))
  }
})

test('the format has not changed: known contents have known ids', () => {
  expect(built([{ zero: true, count: 1 }]).id).toMatchInlineSnapshot(
    `"77c3ebeec32a81f5f31e73fbaad61415b2855b2bc2fcf06f8ff3bf8bd96b0890"`
  )
  expect(built([{ zero: false, count: 1025 }]).id).toMatchInlineSnapshot(
    `"609cfb5930e035cd69dfa0e1b68f919d04ea8c4e11aa1421409e414d43ccbcdf"`
  )
  expect(
    built(
      [
        { zero: true, count: 2048 },
        { zero: false, count: 3 }
      ],
      2050 * BLOCK_SIZE_BYTES + 1
    ).id
  ).toMatchInlineSnapshot(`"4d7fe5b9dc5cdbfdd72880a8028c69e80303b53e3613947ff06e44f69aab9d7f"`)
})
