/**
 * Boot profiles between real peers: they come with the first answer about an image, are followed in their order, and cost a bounded share.
 */
import { afterEach, expect, test } from 'vitest'
import { type BootProfile, encodeProfile } from '../../src/image/boot-profile.ts'
import { Profiles } from '../../src/store/profiles.ts'
import type { BootAhead, ProfileExchange } from '../../src/swarm/swarm.ts'
import { keepImage, makeImage, recordingLog, startPeer, type TestPeer, until } from '../unit/swarm/support.ts'

const BLOCKS = 200
const image = makeImage(1, BLOCKS)
const running: TestPeer[] = []
const aheads: BootAhead[] = []

afterEach(async () => {
  for (const ahead of aheads.splice(0)) ahead.stop()
  for (const peer of running.splice(0).reverse()) await peer.stop()
})

const profileOf = (blocks: number[]): BootProfile => blocks.map((block, index) => ({ block, atMs: index }))
/** Data blocks: every seventh is zero, from block 3 on. */
const order = [148, 2, 151, 1, 152, 0, 96, 97, 98, 99]

async function replica(profile: Uint8Array | undefined): Promise<TestPeer> {
  const profiles: ProfileExchange = { toShare: () => profile, heard: async () => {}, disown: () => {} }
  const peer = await startPeer({ profiles })
  running.push(peer)
  await keepImage(peer, image)
  return peer
}

async function volunteer() {
  const { log, lines } = recordingLog()
  let profiles: Profiles | undefined
  const exchange: ProfileExchange = {
    toShare: () => undefined,
    heard: (id, peer, bytes, blocks) => profiles!.heard(id, peer, bytes, blocks),
    disown: peer => profiles!.disown(peer)
  }
  const peer = await startPeer({ listen: false, profiles: exchange, log })
  running.push(peer)
  profiles = await Profiles.open(peer.catalog)
  return { peer, profiles, lines }
}

test('a profile comes with the first answer, and its blocks are fetched before anybody asks for them', async () => {
  const server = await replica(encodeProfile(profileOf(order)))
  const { peer, profiles } = await volunteer()
  const stored: number[] = []
  const local = await peer.swarm.openImage(image.id, [server.hint()])
  await until(() => profiles.choose(image.id, BLOCKS) !== undefined, 'the profile')
  const ahead = await peer.swarm.ahead(image.id)
  aheads.push(ahead)
  ahead.follow(profiles.choose(image.id, BLOCKS)!.profile)
  await until(() => {
    for (const block of order) if (local.locate(block) >= 0 && !stored.includes(block)) stored.push(block)
    return stored.length === order.length
  }, 'the blocks of the profile')
  expect(local.local.blocks).toBe(order.length)
  expect(ahead.view.profile).toMatchObject({ of: order.length, passed: order.length, unused: order.length })
})

test('the worst profile wastes a quarter of the image at most, and demand goes on', async () => {
  const all = Array.from({ length: BLOCKS }, (_, block) => block)
  const server = await replica(encodeProfile(profileOf(all)))
  const { peer, profiles } = await volunteer()
  const local = await peer.swarm.openImage(image.id, [server.hint()])
  await until(() => profiles.choose(image.id, BLOCKS) !== undefined, 'the profile')
  const ahead = await peer.swarm.ahead(image.id)
  aheads.push(ahead)
  ahead.follow(profiles.choose(image.id, BLOCKS)!.profile)
  const share = Math.floor((local.root.blocks - local.root.zeroBlocks) / 4)
  await until(() => local.local.blocks >= share, 'a quarter of the image')
  await peer.swarm.want(image.id, 198, 'demand')
  ahead.touched(198)
  await until(() => local.local.blocks > share, 'what was asked for to be kept')
  await new Promise(resolve => setTimeout(resolve, 200))
  expect(local.local.blocks).toBe(share + 1)
})

test('a profile that is none is passed over, and its sender serves on', async () => {
  const server = await replica(encodeProfile(profileOf([1, BLOCKS])))
  const { peer, profiles, lines } = await volunteer()
  await peer.swarm.openImage(image.id, [server.hint()])
  expect(await peer.swarm.want(image.id, 5, 'demand')).toHaveProperty('bytes')
  await until(() => lines.some(({ values }) => values.code === 'PROFILE_INVALID'), 'the refusal')
  expect(profiles.choose(image.id, BLOCKS)).toBeUndefined()
})

test('what is in the pool under another image is not asked for', async () => {
  const server = await replica(undefined)
  const { peer } = await volunteer()
  // The same blocks at other places: blocks 0 to 99 of the other image are 100 to 199 of this one.
  const other = makeImage(1, BLOCKS + 7, { isZero: n => n % 7 === 3 })
  await keepImage(peer, other, n => n < 100)
  await peer.swarm.openImage(image.id, [server.hint()])
  const ahead = await peer.swarm.ahead(image.id)
  aheads.push(ahead)
  ahead.follow(profileOf([1, 2, 148, 5, 151]))
  await until(() => ahead.view.profile?.passed === 5, 'the end of the profile')
  await until(() => peer.swarm.transfers(image.id).blocks === 2, 'two blocks')
  expect(server.swarm.served()[0]?.servedBlocks).toBe(2)
})
