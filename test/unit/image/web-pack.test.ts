import { expect, test } from 'vitest'
import { decodeRangeIndex, encodeRangeIndex, rangeIndexBytes } from '../../../src/image/web-pack.ts'
import { webSeedUrl } from '../../../src/image/web-seed.ts'
import { withCode } from './with-code.ts'

test('a range index says where each block lies', () => {
  const bytes = encodeRangeIndex(7, [100, 0, 65_536, 5])
  expect(bytes.byteLength).toBe(rangeIndexBytes(4))
  const index = decodeRangeIndex(bytes, { page: 7, blocks: 4 })
  expect([0, 1, 2, 3].map(block => index.start(block))).toEqual([32, 132, 132, 65_668])
  expect([0, 1, 2, 3].map(block => index.length(block))).toEqual([100, 0, 65_536, 5])
  expect(index.end(3)).toBe(65_673)
})

test.each<[string, (bytes: Uint8Array) => Uint8Array, { page: number; blocks: number }]>([
  ['another page', bytes => bytes, { page: 6, blocks: 3 }],
  ['another number of blocks', bytes => bytes, { page: 7, blocks: 4 }],
  ['no block', bytes => bytes.subarray(0, 16), { page: 7, blocks: 0 }],
  ['a byte less', bytes => bytes.subarray(0, -1), { page: 7, blocks: 3 }],
  ['another magic number', bytes => bytes.with(0, 0), { page: 7, blocks: 3 }],
  ['a version to come', bytes => bytes.with(4, 2), { page: 7, blocks: 3 }],
  ['a block of more than 64 KiB', bytes => bytes.with(18, 2), { page: 7, blocks: 3 }],
  ['nothing but zeros', () => encodeRangeIndex(7, [0, 0, 0]), { page: 7, blocks: 3 }]
])('a range index with %s is refused', (_what, change, expected) => {
  const bytes = change(encodeRangeIndex(7, [100, 0, 3]))
  expect(() => decodeRangeIndex(bytes, expected)).toThrow(withCode('WEB_SEED_INVALID'))
})

test('the URL of a web seed has one spelling', () => {
  expect(webSeedUrl('https://Example.org/images')).toBe('https://example.org/images/')
  expect(webSeedUrl('http://example.org:80')).toBe('http://example.org/')
})

test.each([
  'ftp://example.org/',
  'file:///etc/',
  'https://user:password@example.org/',
  'https://example.org/?a=b',
  'https://example.org/#a',
  'example.org',
  `https://example.org/${'x'.repeat(256)}/`
])('%s is no web seed', text => {
  expect(() => webSeedUrl(text)).toThrow(withCode('WEB_SEED_URL_INVALID'))
})
