import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type BootProfile,
  decodeProfile,
  encodeProfile,
  MAX_PROFILE_BYTES,
  MAX_PROFILE_ENTRIES,
  MAX_PROFILE_MS
} from '../../../src/image/boot-profile.ts'
import { withCode } from './with-code.ts'

const LARGEST_IMAGE_BLOCKS = 2 ** 27

const profiles = (blocks: number, maxLength = 200): fc.Arbitrary<BootProfile> =>
  fc.uniqueArray(fc.tuple(fc.nat(blocks - 1), fc.nat(1000)), { maxLength, selector: ([block]) => block }).map(pairs => {
    let atMs = 0
    return pairs.map(([block, afterMs]) => {
      atMs += afterMs
      return { block, atMs }
    })
  })

const bytesOf = (...bytes: number[]) => Uint8Array.from(bytes)

describe('a boot profile', () => {
  test('comes back as it went in', () => {
    fc.assert(
      fc.property(profiles(LARGEST_IMAGE_BLOCKS), profile => {
        expect(decodeProfile(encodeProfile(profile), LARGEST_IMAGE_BLOCKS)).toEqual(profile)
      })
    )
  })

  test('takes two to three bytes for a block that follows its neighbour', () => {
    const profile = Array.from({ length: 1000 }, (_, index) => ({ block: 5000 + index, atMs: index * 2 }))
    expect(encodeProfile(profile).byteLength).toBeLessThan(2010)
  })

  test('is cut where it would be too long, and what is kept can be read', () => {
    const long = Array.from({ length: 1_000_000 }, (_, index) => ({ block: index, atMs: index }))
    const far = Array.from({ length: 20_000 }, (_, index) => ({
      block: (index * 67_000_001) % LARGEST_IMAGE_BLOCKS,
      atMs: index * 100
    }))
    expect(decodeProfile(encodeProfile(long), LARGEST_IMAGE_BLOCKS)).toHaveLength(MAX_PROFILE_ENTRIES)
    const bytes = encodeProfile(far)
    expect(bytes.byteLength).toBeLessThanOrEqual(MAX_PROFILE_BYTES)
    const cut = decodeProfile(bytes, LARGEST_IMAGE_BLOCKS)
    expect(cut.length).toBeGreaterThan(5_000)
    expect(cut).toEqual(
      far.slice(0, cut.length).map(({ block, atMs }) => ({ block, atMs: Math.min(atMs, MAX_PROFILE_MS) }))
    )
  })

  test.each([
    ['another format', bytesOf(2, 0)],
    ['nothing', bytesOf()],
    ['an end in the middle', bytesOf(1, 2, 2, 0)],
    ['an end in the middle of a number', bytesOf(1, 0x81)],
    ['more entries than bytes', bytesOf(1, 3, 2, 0, 2, 0)],
    ['bytes behind its end', bytesOf(1, 1, 2, 0, 0)],
    ['a number with a needless byte', bytesOf(1, 1, 0x82, 0, 0)],
    ['a number of five bytes', bytesOf(1, 1, 0x80, 0x80, 0x80, 0x80, 1, 0)],
    ['a block outside the image', bytesOf(1, 1, 20, 0)],
    ['a block before the image', bytesOf(1, 1, 1, 0)],
    ['a block twice', bytesOf(1, 2, 2, 0, 0, 0)],
    ['a boot of hours', bytesOf(1, 1, 2, 0xff, 0xff, 0xff, 0x7f)],
    ['a million entries', bytesOf(1, 0xc0, 0x84, 0x3d, ...new Uint8Array(60_000))],
    [
      'a million entries, all there',
      Uint8Array.from({ length: 2_000_004 }, (_, at) => [1, 0xc0, 0x84, 0x3d][at] ?? (at % 2 === 0 ? 2 : 0))
    ]
  ])('with %s is refused', (_, bytes) => {
    expect(() => decodeProfile(bytes, 10)).toThrow(withCode('PROFILE_INVALID'))
  })
})
