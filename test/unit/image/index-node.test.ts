import { expect, test } from 'vitest'
import { type Hash, sha256, toHex } from '../../../src/image/hash.ts'
import { decodeIndexNode, decodePacked, encodeIndexNode, MAX_NODE_BYTES } from '../../../src/image/index-node.ts'
import { IndexNode as NodeMessage } from '../../../src/image/proto/index.js'
import { withCode } from './with-code.ts'

const hashOf = (value: number): Hash => sha256(Buffer.from(String(value)))
const children = (count: number, isHere: (index: number) => boolean): (Hash | undefined)[] =>
  Array.from({ length: count }, (_, index) => (isHere(index) ? hashOf(index) : undefined))
const hex = (hashes: (Hash | undefined)[]) => hashes.map(hash => hash && toHex(hash))

test.each([
  [0, 1, () => true],
  [0, 8, (index: number) => index === 7],
  [1, 9, (index: number) => index === 8],
  [2, 128, (index: number) => index % 3 === 0],
  [0, 1024, () => true],
  [0, 1024, (index: number) => index === 1023]
])('a node at level %i with %i children comes back as it was', (level, count, isHere) => {
  const node = { level, children: children(count, isHere) }
  const bytes = encodeIndexNode(node)
  expect(bytes.byteLength).toBeLessThanOrEqual(MAX_NODE_BYTES)
  const decoded = decodeIndexNode(bytes, { level, childCount: count })
  expect(decoded.level).toBe(level)
  expect(hex(decoded.children)).toEqual(hex(node.children))
  const packed = decodePacked(bytes, { level, childCount: count })
  expect(packed.presentCount).toBe(node.children.filter(Boolean).length)
  for (let index = 0; index < count; index++) expect(packed.has(index)).toBe(isHere(index))
  expect(packed.hashAt(count)).toBeUndefined()
})

test('a full page has the largest size there is', () => {
  expect(encodeIndexNode({ level: 2, children: children(1024, () => true) }).byteLength).toBe(MAX_NODE_BYTES)
})

const good = encodeIndexNode({ level: 0, children: children(12, index => index < 10) })
const parts = NodeMessage.decode(good)
const refused: [string, Uint8Array, { level: number; childCount: number }][] = [
  ['no bytes', new Uint8Array(0), { level: 0, childCount: 12 }],
  ['another level', good, { level: 1, childCount: 12 }],
  ['fewer children than bits', good, { level: 0, childCount: 9 }],
  ['more children than bits', good, { level: 0, childCount: 17 }],
  ['no children', good, { level: 0, childCount: 0 }],
  ['too many children', good, { level: 0, childCount: 1025 }],
  ['a level that no image has', NodeMessage.encode({ ...parts, level: 3 }), { level: 3, childCount: 12 }],
  ['a hash too few', NodeMessage.encode({ ...parts, hashes: parts.hashes.subarray(32) }), { level: 0, childCount: 12 }],
  ['a hash too long', NodeMessage.encode({ ...parts, hashes: new Uint8Array(321) }), { level: 0, childCount: 12 }],
  [
    'a bit beyond the children',
    NodeMessage.encode({ ...parts, present: Uint8Array.of(0xff, 0x13), hashes: new Uint8Array(11 * 32) }),
    { level: 0, childCount: 12 }
  ],
  [
    'no child at all',
    NodeMessage.encode({ level: 0, present: new Uint8Array(2), hashes: new Uint8Array(0) }),
    { level: 0, childCount: 12 }
  ],
  ['a byte more', Buffer.concat([good, Uint8Array.of(0)]), { level: 0, childCount: 12 }],
  ['an unknown field', Buffer.concat([good, Uint8Array.of(0x20, 1)]), { level: 0, childCount: 12 }],
  ['a repeated field', Buffer.concat([Uint8Array.of(0x08, 1), good]), { level: 0, childCount: 12 }],
  [
    'a level that is written out though it is 0',
    Buffer.concat([Uint8Array.of(0x08, 0), good]),
    { level: 0, childCount: 12 }
  ],
  ['its end cut off', good.subarray(0, good.byteLength - 1), { level: 0, childCount: 12 }],
  ['too many bytes', new Uint8Array(MAX_NODE_BYTES + 1), { level: 0, childCount: 12 }]
]

test.each(refused)('refuses a node with %s', (_what, bytes, expected) => {
  expect(() => decodeIndexNode(bytes, expected)).toThrow(withCode('INDEX_INVALID'))
})
