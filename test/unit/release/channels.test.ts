import { expect, test } from 'vitest'
import type { Channel } from '../../../src/image/release.ts'
import { checkRollout, moveChannel, sameChannel } from '../../../src/release/channels.ts'

const move = (channels: Channel[], version: string, rolloutPercent = 100, name = 'stable') =>
  moveChannel(channels, { name, version, rolloutPercent }, 'p/grid')

test.each([0, 101, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('a rollout of %d is refused', percent => {
  expect(() => checkRollout(percent)).toThrow(expect.objectContaining({ code: 'CHANNEL_INVALID' }))
})

test('a channel begins with its first release, and moves on', () => {
  const first = move([], 'v1')
  expect(first).toEqual([{ name: 'stable', version: 'v1', rolloutPercent: 100 }])
  expect(move(first, 'v2')).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 100 }])
})

test('other channels stay as they are, in their places', () => {
  const two = move(move([], 'v1'), 'v1', 100, 'testing')
  expect(move(two, 'v2', 100, 'stable').map(({ name, version }) => `${name} ${version}`)).toEqual([
    'stable v2',
    'testing v1'
  ])
})

test('in a rollout the others stay with the version before, until it is complete', () => {
  const ten = move(move([], 'v1'), 'v2', 10)
  expect(ten).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 10, previous: 'v1' }])
  const fifty = move(ten, 'v2', 50)
  expect(fifty).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 50, previous: 'v1' }])
  expect(move(fifty, 'v2', 100)).toEqual([{ name: 'stable', version: 'v2', rolloutPercent: 100 }])
})

test('a release in the middle of a rollout leaves those whom it had not reached where they are', () => {
  const ten = move(move([], 'v1'), 'v2', 10)
  expect(move(ten, 'v3', 20)).toEqual([{ name: 'stable', version: 'v3', rolloutPercent: 20, previous: 'v1' }])
})

test('a rollout can be called off', () => {
  const ten = move(move([], 'v1'), 'v2', 10)
  expect(move(ten, 'v1')).toEqual([{ name: 'stable', version: 'v1', rolloutPercent: 100 }])
  expect(move(ten, 'v1', 30)).toEqual([{ name: 'stable', version: 'v1', rolloutPercent: 100 }])
})

test('a partial rollout needs something for the others', () => {
  expect(() => move([], 'v1', 50)).toThrow(expect.objectContaining({ code: 'CHANNEL_INVALID' }))
  expect(() => move(move([], 'v1'), 'v1', 50)).toThrow(expect.objectContaining({ code: 'CHANNEL_INVALID' }))
})

test('there is a limit to channels', () => {
  let channels: Channel[] = []
  for (let index = 0; index < 64; index++) channels = move(channels, 'v1', 100, `c${index}`)
  expect(() => move(channels, 'v1', 100, 'more')).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
  expect(move(channels, 'v2', 100, 'c5')).toHaveLength(64)
})

test('channels are the same when all of them is', () => {
  const channel: Channel = { name: 'a', version: 'v1', rolloutPercent: 10, previous: 'v0' }
  expect(sameChannel(channel, { ...channel })).toBe(true)
  expect(sameChannel(undefined, undefined)).toBe(true)
  for (const change of [{ name: 'b' }, { version: 'v2' }, { rolloutPercent: 11 }, { previous: 'v2' }]) {
    expect(sameChannel(channel, { ...channel, ...change })).toBe(false)
  }
  expect(sameChannel(channel, undefined)).toBe(false)
})
