import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog } from '../../../src/store/catalog.ts'
import { KnownLiars } from '../../../src/swarm/known-liars.ts'
import { MAX_REMEMBERED_LIARS } from '../../../src/swarm/limits.ts'
import { Scheduler } from '../../../src/swarm/scheduler.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { silentLog } from './support.ts'

const DAY_MS = 24 * 60 * 60_000

let folder: string
let catalog: Catalog
let now = 1000 * DAY_MS

const open = () => KnownLiars.open({ catalog, clock: { now: () => now }, log: silentLog })

beforeEach(async () => {
  folder = join(await temporaryFolder(), 'catalog')
  catalog = await Catalog.open(folder)
})

afterEach(async () => {
  await catalog.close()
  await removeFolders()
})

test('a liar is remembered after a restart, for a month', async () => {
  const liars = await open()
  liars.note('mallory', 'BLOCK_INVALID')
  liars.note('mallory', 'BLOCK_INVALID')
  await catalog.close()
  catalog = await Catalog.open(folder)
  expect([...(await open()).peers]).toEqual(['mallory'])
  now += 29 * DAY_MS
  expect((await open()).peers.has('mallory')).toBe(true)
  now += 2 * DAY_MS
  expect((await open()).peers.size).toBe(0)
  now -= 31 * DAY_MS
  // Forgotten for good, also if the clock goes back.
  expect((await open()).peers.size).toBe(0)
})

test('a clock that was set back far keeps nobody for ever', async () => {
  const liars = await open()
  liars.note('mallory', 'BLOCK_INVALID')
  now -= 40 * DAY_MS
  expect((await open()).peers.size).toBe(0)
  now += 40 * DAY_MS
})

test('there is room for a bounded number', async () => {
  const liars = await open()
  for (let n = 0; n <= MAX_REMEMBERED_LIARS; n++) liars.note(`peer-${n}`, 'BLOCK_INVALID')
  expect(liars.peers.size).toBe(MAX_REMEMBERED_LIARS)
})

test('whoever is remembered is not spoken to', () => {
  const scheduler = new Scheduler(['mallory'])
  expect(scheduler.isLiar('mallory')).toBe(true)
  scheduler.step({ type: 'joined', peer: 'mallory', rttMs: 10 }, 0)
  expect(scheduler.view()).toEqual([])
})
