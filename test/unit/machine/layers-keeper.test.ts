/**
 * The layers of one machine by themselves: who has them when a command comes. What the commands do is shown in snapshots.test.ts.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MachineLayers } from '../../../src/disk/machine-layers.ts'
import { RowanError } from '../../../src/errors.ts'
import type { MachineDescription } from '../../../src/machine/description.ts'
import { LayersKeeper } from '../../../src/machine/layers-keeper.ts'
import { systemClock } from '../../../src/node/system.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { components, TestImage } from '../disk/support/test-image.ts'

const SIZE_BYTES = 1024 * 1024
const TAKEN = '2026-01-02T03:04:05.678Z'
const DESCRIPTION: MachineDescription = {
  format: 1,
  ...{ name: 'm', appliance: 'p/grid', version: 'v1', image: 'ab'.repeat(32), sizeBytes: SIZE_BYTES, created: TAKEN },
  ...{ readOnly: false, attached: false, id: '12'.repeat(16), hasLayer: true }
}

type Owner = ConstructorParameters<typeof LayersKeeper>[2]

let folder: string
let owner: { -readonly [Part in keyof Owner]: Owner[Part] }
let keeper: LayersKeeper
/** A disk's thread that has not left. */
let stuck: RowanError | undefined

beforeEach(async () => {
  folder = join(await temporaryFolder(), 'layers')
  const { log, bootId } = components(new TestImage(SIZE_BYTES))
  const { id, image } = DESCRIPTION
  const settings = { folder, machine: id, image, sizeBytes: SIZE_BYTES }
  const layers = await MachineLayers.open({ log, bootId }, { ...settings, create: true })
  layers.stack('system')!.top.writeSync(0, new Uint8Array(512).fill(1))
  await layers.close()
  stuck = undefined
  owner = {
    description: DESCRIPTION,
    disk: undefined,
    checkLeft: () => {
      if (stuck !== undefined) throw stuck
    },
    openImage: async () => undefined
  }
  const unused = {} as never
  const needs = { clock: { ...systemClock, now: () => Date.parse(TAKEN) }, log, pool: unused, swarm: unused }
  keeper = new LayersKeeper(needs, { folder, bootId }, owner)
})

afterEach(removeFolders)

test('of a disk that nobody serves are opened for one command after the other', async () => {
  expect(await keeper.snapshot('first')).toMatchObject({ name: 's1', taken: TAKEN })
  expect([keeper.count, keeper.dataBytes, keeper.bytes > 0]).toEqual([2, undefined, true])
  expect(keeper.snapshots).toMatchObject([{ snapshot: 's1', note: 'first', current: true }])
  await keeper.rollback('s1')
  await keeper.discard('s1')
  expect(keeper.snapshots).toEqual([])
})

test('of a disk that is served are its thread’s, and are not opened beside it', async () => {
  const told: unknown[] = []
  owner.disk = {
    snapshot: async request => {
      told.push(request)
      return { name: 's7', ...request, at: {} }
    },
    discard: async snapshot => void told.push(snapshot)
  }
  expect((await keeper.snapshot('note')).name).toBe('s7')
  await keeper.discard('s7')
  expect(told).toEqual([{ note: 'note', taken: TAKEN }, 's7'])
  await expect(keeper.rollback('s7')).rejects.toMatchObject({ code: 'INTERNAL' })
  expect([keeper.count, keeper.snapshots]).toEqual([1, []])
})

test('of a disk whose thread has not left are nobody else’s', async () => {
  stuck = new RowanError('DISK_STUCK', 'not yet')
  for (const command of [keeper.snapshot(''), keeper.rollback('s1'), keeper.discard('s1')]) {
    await expect(command).rejects.toBe(stuck)
  }
  expect(keeper.count).toBe(1)
})

test('that there never were count as nothing, whatever a crash has left', async () => {
  owner.description = { ...DESCRIPTION, hasLayer: false }
  expect([keeper.count, keeper.bytes, keeper.dataBytes, keeper.snapshots]).toEqual([0, 0, undefined, []])
  await expect(keeper.snapshot('')).rejects.toMatchObject({ code: 'READ_ONLY' })
  expect(existsSync(join(folder, '0002'))).toBe(false)
})
