import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type BootProfile, encodeProfile } from '../../../src/image/boot-profile.ts'
import { sha256, toHex } from '../../../src/image/hash.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { MAX_HEARD_IMAGES, MAX_HEARD_PEERS, Profiles } from '../../../src/store/profiles.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'

const IMAGE = 'aa'.repeat(32)
const OTHER = 'bb'.repeat(32)
const BLOCKS = 100

let folder: string
let catalog: Catalog
let profiles: Profiles

beforeEach(async () => {
  folder = await temporaryFolder()
  catalog = await Catalog.open(folder)
  profiles = await Profiles.open(catalog)
})

afterEach(async () => {
  await catalog.close()
  await removeFolders()
})

async function restart(): Promise<void> {
  await catalog.close()
  catalog = await Catalog.open(folder)
  profiles = await Profiles.open(catalog)
}

const profileOf = (...blocks: number[]): BootProfile => blocks.map((block, index) => ({ block, atMs: index }))
const chosen = (image = IMAGE) => {
  const choice = profiles.choose(image, BLOCKS)
  return choice && { from: choice.from, voices: choice.voices, blocks: choice.profile.map(({ block }) => block) }
}
const hashOf = (profile: BootProfile) => toHex(sha256(encodeProfile(profile)))

describe('Profiles', () => {
  test('keep a recording over a restart', async () => {
    expect(chosen()).toBeUndefined()
    await profiles.recorded(IMAGE, profileOf(3, 1, 2), { isFresh: true })
    await restart()
    expect(chosen()).toEqual({ from: 'own', voices: 1, blocks: [3, 1, 2] })
  })

  test('replace a recording by a newer one, but one without a past not by one with', async () => {
    await profiles.recorded(IMAGE, profileOf(1), { isFresh: false })
    await profiles.recorded(IMAGE, profileOf(2), { isFresh: false })
    expect(chosen()?.blocks).toEqual([2])
    await profiles.recorded(IMAGE, profileOf(3), { isFresh: true })
    await profiles.recorded(IMAGE, profileOf(4), { isFresh: false })
    expect(chosen()?.blocks).toEqual([3])
    await profiles.recorded(IMAGE, profileOf(5), { isFresh: true })
    expect(chosen()?.blocks).toEqual([5])
  })

  test('merge what several peers say, each peer one voice, its last one', async () => {
    const say = (peer: string, ...blocks: number[]) =>
      profiles.heard(IMAGE, peer, encodeProfile(profileOf(...blocks)), BLOCKS)
    await say('a', 1, 2, 3)
    expect(chosen()).toEqual({ from: 'peers', voices: 1, blocks: [1, 2, 3] })
    await say('b', 1, 2, 4)
    await say('liar', 90, 91, 92)
    expect(chosen()).toEqual({ from: 'peers', voices: 3, blocks: [1, 2] })
    await say('liar', 4, 3, 90)
    await say('liar', 91, 92, 93)
    expect(chosen()?.blocks).toEqual([1, 2])
    profiles.disown('liar')
    expect(chosen()).toMatchObject({ voices: 2, blocks: [1, 2] })
  })

  test('follow the released profile, whoever hands it over, and nobody else', async () => {
    const released = profileOf(5, 6, 7)
    await profiles.recorded(IMAGE, profileOf(1), { isFresh: true })
    await profiles.heard(IMAGE, 'a', encodeProfile(profileOf(2)), BLOCKS)
    await profiles.expect(IMAGE, { hash: hashOf(released) })
    await profiles.heard(IMAGE, 'c', encodeProfile(profileOf(3)), BLOCKS)
    expect(chosen()).toMatchObject({ from: 'peers', voices: 3 })
    await profiles.heard(IMAGE, 'b', encodeProfile(released), BLOCKS)
    expect(chosen()).toEqual({ from: 'release', voices: 1, blocks: [5, 6, 7] })
    await restart()
    expect(chosen()?.from).toBe('release')
    // Another release of the same image has another one.
    await profiles.expect(IMAGE, { hash: hashOf(profileOf(8)) })
    expect(chosen()?.from).toBe('own')
  })

  test('know the released profile among those that came before the release was known', async () => {
    const released = profileOf(5, 6, 7)
    await profiles.heard(IMAGE, 'a', encodeProfile(released), BLOCKS)
    await profiles.expect(IMAGE, { hash: hashOf(released) })
    expect(chosen()?.from).toBe('release')
  })

  test('take that of an image like it where there is none, as far as its blocks go', async () => {
    await profiles.expect(IMAGE, { similar: [IMAGE, OTHER] })
    expect(chosen()).toBeUndefined()
    await profiles.recorded(OTHER, profileOf(99, 100, 3), { isFresh: true })
    expect(chosen()).toEqual({ from: 'similar', voices: 1, blocks: [99, 3] })
    await profiles.heard(IMAGE, 'a', encodeProfile(profileOf(1)), BLOCKS)
    expect(chosen()?.from).toBe('peers')
  })

  test('give away the released profile, and the own one only if that is allowed', async () => {
    await profiles.recorded(IMAGE, profileOf(1), { isFresh: true })
    expect(profiles.toShare(IMAGE, { own: false })).toBeUndefined()
    expect(profiles.toShare(IMAGE, { own: true })).toEqual(Buffer.from(encodeProfile(profileOf(1))))
    const released = encodeProfile(profileOf(5, 6))
    await profiles.expect(IMAGE, { hash: toHex(sha256(released)) })
    await profiles.heard(IMAGE, 'a', released, BLOCKS)
    expect(profiles.toShare(IMAGE, { own: false })).toEqual(Buffer.from(released))
  })

  test('refuse what no honest peer sends, and what was there before stays', async () => {
    await profiles.heard(IMAGE, 'a', encodeProfile(profileOf(1)), BLOCKS)
    const outside = encodeProfile(profileOf(1, 100))
    await expect(profiles.heard(IMAGE, 'a', outside, BLOCKS)).rejects.toThrow(withCode('PROFILE_INVALID'))
    expect(chosen()?.blocks).toEqual([1])
  })

  test('listen to a bounded number of peers, about a bounded number of images', async () => {
    const say = (image: string, peer: string) => profiles.heard(image, peer, encodeProfile(profileOf(1)), BLOCKS)
    for (let peer = 0; peer < MAX_HEARD_PEERS + 5; peer++) await say(IMAGE, `peer ${peer}`)
    expect(chosen()?.voices).toBe(MAX_HEARD_PEERS)
    for (let image = 0; image < MAX_HEARD_IMAGES; image++) await say(`image ${image}`, 'a')
    expect(chosen()).toBeUndefined()
    expect(chosen(`image ${MAX_HEARD_IMAGES - 1}`)?.voices).toBe(1)
  })

  test('tell of a change', async () => {
    const told: string[] = []
    const stop = profiles.onChange(image => told.push(image))
    await profiles.heard(IMAGE, 'a', encodeProfile(profileOf(1)), BLOCKS)
    await profiles.recorded(OTHER, profileOf(1), { isFresh: true })
    stop()
    await profiles.recorded(OTHER, profileOf(2), { isFresh: true })
    expect(told).toEqual([IMAGE, OTHER])
  })
})

test('a forgotten image has no profile left, neither recorded nor heard', async () => {
  await profiles.recorded(IMAGE, profileOf(1, 2), { isFresh: true })
  await profiles.heard(IMAGE, 'peer', encodeProfile(profileOf(3)), BLOCKS)
  await profiles.recorded(OTHER, profileOf(4), { isFresh: true })
  await catalog.write(profiles.forgetOps(IMAGE))
  expect(chosen()).toBeUndefined()
  expect(profiles.forgetOps(IMAGE)).toEqual([])
  await restart()
  expect(chosen()).toBeUndefined()
  expect(chosen(OTHER)).toMatchObject({ blocks: [4] })
})
