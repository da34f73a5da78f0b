import { describe, expect, test } from 'vitest'
import type { Latest } from '../../../src/image/release.ts'
import { MAX_RELEASES } from '../../../src/image/release-codec.ts'
import { checkSameSize, recordWith, removable } from '../../../src/release/next-record.ts'

const APPLIANCE = 'publisher/grid'
const image = (id: string, blocks = 2) => ({ id, root: { sizeBytes: blocks * 65_536, blocks, zeroBlocks: 1 } })

/** What a record says after `wanted`, which must change something. */
function next(
  base: Latest | undefined,
  wanted: Omit<Parameters<typeof recordWith>[2], 'profile'> & { profile?: string }
) {
  const record = recordWith(
    APPLIANCE,
    base,
    { profile: undefined, ...wanted } as Parameters<typeof recordWith>[2],
    1000
  )
  return record as unknown as Latest
}

const first = next(undefined, { version: 'v1', image: image('a') as never })

describe('the next record of an appliance', () => {
  test('has the first release, on the default channel, with what its image says', () => {
    expect(first.releases).toEqual([
      {
        version: 'v1',
        image: 'a',
        sizeBytes: 131_072,
        blocks: 2,
        zeroBlocks: 1,
        labels: {},
        publishedMs: 1000
      }
    ])
    expect(first.channels).toMatchObject([{ name: 'stable', version: 'v1', rolloutPercent: 100 }])
  })

  test('names the version before it as the parent, and moves only the channel that is asked for', () => {
    const second = next(first, { version: 'v2', image: image('b') as never, channel: 'testing' })
    expect(second.releases.at(-1)).toMatchObject({ version: 'v2', parent: 'v1' })
    expect(second.channels.find(({ name }) => name === 'stable')).toMatchObject({ version: 'v1' })
    expect(second.channels.find(({ name }) => name === 'testing')).toMatchObject({ version: 'v2' })
  })

  test('is none where all is said already, and takes a profile or web seeds that come later', () => {
    const again = { version: 'v1', image: image('a') as never }
    expect(next(first, again)).toBeUndefined()
    const advised = next(first, { ...again, profile: 'ff', webSeeds: ['https://seed.example/a'] })
    expect(advised.releases).toMatchObject([{ version: 'v1', profile: 'ff', webSeeds: ['https://seed.example/a'] }])
    expect(next(advised, again)).toBeUndefined()
    expect(next(advised, { ...again, profile: 'ee' }).releases[0]).toMatchObject({ profile: 'ee' })
  })

  test('leaves the default channel where it is when an old version is published again', () => {
    const second = next(first, { version: 'v2', image: image('b') as never })
    expect(next(second, { version: 'v1', image: image('a') as never })).toBeUndefined()
    const back = next(second, { version: 'v1', image: image('a') as never, channel: 'stable' })
    expect(back.channels.find(({ name }) => name === 'stable')).toMatchObject({ version: 'v1' })
  })

  test('refuses other labels of a version that exists; without any, or with the same ones, it is no change', () => {
    const same = { version: 'v1', image: image('a') as never }
    const labelled = next(undefined, { ...same, labels: { os: 'debian', arch: 'x' } })
    expect(next(labelled, same)).toBeUndefined()
    expect(next(labelled, { ...same, labels: { arch: 'x', os: 'debian' } })).toBeUndefined()
    expect(() => next(labelled, { ...same, labels: { os: 'bsd' } })).toThrow(
      expect.objectContaining({ code: 'RELEASE_EXISTS', message: expect.stringContaining('os=debian, arch=x') })
    )
  })

  test('refuses another image under a version that exists, and more releases than a record holds', () => {
    expect(() => next(first, { version: 'v1', image: image('b') as never })).toThrow(
      expect.objectContaining({ code: 'RELEASE_EXISTS' })
    )
    expect(() => checkSameSize(first, APPLIANCE, 'v1', 1)).toThrow(expect.objectContaining({ code: 'RELEASE_EXISTS' }))
    checkSameSize(first, APPLIANCE, 'v1', 131_072)
    checkSameSize(first, APPLIANCE, 'v9', 1)
    const releases = Array.from({ length: MAX_RELEASES }, (_, index) => ({
      ...first.releases[0]!,
      version: `w${index}`
    }))
    expect(() => next({ ...first, releases }, { version: 'v2', image: image('b') as never })).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' })
    )
  })
})

test('what a channel needs, now or to go back to, and the last release may not go', () => {
  const second = next(first, { version: 'v2', image: image('b') as never })
  const third = next(second, { version: 'v3', image: image('c') as never })
  const needed = new Set(third.channels.flatMap(({ version, previous }) => [version, previous]))
  const going = removable(third, ['v1', 'v2', 'v3', 'v9']).map(({ version }) => version)
  expect(going).toEqual(['v1', 'v2', 'v3'].filter(version => !needed.has(version)))
  expect(going).toContain('v1')
  expect(removable({ ...third, channels: [] }, ['v1', 'v2', 'v3']).map(({ version }) => version)).toEqual(['v1', 'v2'])
})
