import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sharesOf } from '../../../src/machine/shares.ts'
import { GRID, Peer, World } from './world.ts'

const used = { appliance: 'p/grid', version: 'v1', image: 'a'.repeat(64), attached: true, hasLayer: true }
const share = { release: 'p/grid@v1', image: 'a'.repeat(64), running: true, keep: true }

test.each([
  ['attached, with a layer', [used], [share]],
  ['attached read-only', [{ ...used, hasLayer: false }], [{ ...share, keep: false }]],
  ['detached, with a layer', [{ ...used, attached: false }], [{ ...share, running: false }]],
  ['detached, without', [{ ...used, attached: false, hasLayer: false }], []],
  [
    'two of one release',
    [
      { ...used, attached: false },
      { ...used, hasLayer: false }
    ],
    [share]
  ]
])('a machine that is %s', (_, machines, shares) => {
  expect(sharesOf(machines)).toEqual(shares)
})

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'rowan-shares-'))
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

test('the directory is told of what machines use, from attach to remove, and after a restart without a network', async () => {
  const world = new World()
  let peer = await Peer.start(home, world)
  const release = `${GRID}@v1`
  expect(world.shared).toEqual([])
  await peer.machines.attach({ name: 'm', ref: 'grid' })
  expect(world.shared).toMatchObject([{ release, running: true, keep: true }])
  await peer.machines.detach('m')
  expect(world.shared).toMatchObject([{ release, running: false, keep: true }])
  await peer.machines.attach({ name: 'm' })
  await peer.stop()
  expect(world.shared).toMatchObject([{ release, running: true, keep: true }])

  world.online = false
  world.shared = undefined
  peer = await Peer.start(home, world)
  expect(world.shared).toMatchObject([{ release, running: true, keep: true }])
  await peer.machines.remove('m')
  expect(world.shared).toEqual([])
  await peer.stop()
})
