import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BootProfile } from '../../../src/image/boot-profile.ts'
import { mergeProfiles } from '../../../src/image/profile-merge.ts'

const profileOf = (blocks: readonly number[]): BootProfile =>
  blocks.map((block, index) => ({ block, atMs: index * 10 }))
const blocksOf = (profile: BootProfile) => profile.map(({ block }) => block)
const anyProfile = fc.uniqueArray(fc.nat(60), { maxLength: 40 }).map(profileOf)

/** Recordings of one boot on two computers: mostly the same blocks in mostly the same order. */
const twoHonest = fc
  .tuple(fc.uniqueArray(fc.nat(60), { minLength: 5, maxLength: 40 }), fc.infiniteStream(fc.nat(9)))
  .map(([blocks, dice]): [BootProfile, BootProfile] => {
    const other = blocks.filter(() => dice.next().value !== 0)
    for (let index = 1; index < other.length; index++) {
      if (dice.next().value < 3) [other[index - 1], other[index]] = [other[index]!, other[index - 1]!]
    }
    return [profileOf(blocks), profileOf(other)]
  })

describe('mergeProfiles', () => {
  test('a single recording stays as it is, and several equal ones give the same', () => {
    const profile = profileOf([7, 3, 9, 1])
    expect(mergeProfiles([])).toEqual([])
    expect(mergeProfiles([profile])).toEqual(profile)
    expect(mergeProfiles([profile, profile, profile])).toEqual(profile)
  })

  test('a block that only a minority has is left out, a rank is the middle one', () => {
    const merged = mergeProfiles([profileOf([1, 2, 3, 4]), profileOf([2, 1, 3, 99]), profileOf([1, 3, 2, 4])])
    expect(blocksOf(merged)).toEqual([1, 2, 3, 4])
  })

  test('the order of the peers does not matter, no block comes twice, and times do not go back', () => {
    fc.assert(
      fc.property(fc.array(anyProfile, { minLength: 2, maxLength: 7 }), fc.nat(6), (profiles, turn) => {
        const merged = mergeProfiles(profiles)
        const turned = [...profiles.slice(turn % profiles.length), ...profiles.slice(0, turn % profiles.length)]
        expect(mergeProfiles(turned)).toEqual(merged)
        expect(new Set(blocksOf(merged)).size).toBe(merged.length)
        expect(merged.every(({ atMs }, index) => index === 0 || atMs >= merged[index - 1]!.atMs)).toBe(true)
      })
    )
  })

  test('each block was named by more than half of the peers', () => {
    fc.assert(
      fc.property(fc.array(anyProfile, { minLength: 2, maxLength: 7 }), profiles => {
        const votes = (block: number) => profiles.filter(profile => blocksOf(profile).includes(block)).length
        const merged = new Set(blocksOf(mergeProfiles(profiles)))
        for (let block = 0; block <= 60; block++) expect(merged.has(block)).toBe(votes(block) * 2 > profiles.length)
      })
    )
  })

  test('a liar among three gains nothing: no block of its own, none kept out, none moved in front of both honest ranks', () => {
    fc.assert(
      fc.property(twoHonest, anyProfile, fc.nat(2), ([a, b], lie, place) => {
        const all: BootProfile[] = [a, b]
        all.splice(place, 0, lie)
        const merged = blocksOf(mergeProfiles(all))
        const [inA, inB] = [blocksOf(a), blocksOf(b)]
        for (const block of merged) expect(inA.includes(block) || inB.includes(block)).toBe(true)
        for (const block of inA) if (inB.includes(block)) expect(merged).toContain(block)
        // Wherever both honest peers put one block before another by all their ranks, so does the result.
        const first = (block: number) => Math.min(...[inA.indexOf(block), inB.indexOf(block)].filter(rank => rank >= 0))
        const last = (block: number) => Math.max(inA.indexOf(block), inB.indexOf(block))
        const common = inA.filter(block => inB.includes(block))
        for (const earlier of common) {
          for (const later of merged) {
            if (last(earlier) >= first(later)) continue
            expect(merged.indexOf(earlier)).toBeLessThan(merged.indexOf(later))
          }
        }
      })
    )
  })
})
