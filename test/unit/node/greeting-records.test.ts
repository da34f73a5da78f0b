import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ApplianceMemory } from '../../../src/directory/appliance-memory.ts'
import { sealLease } from '../../../src/directory/lease-record.ts'
import { GreetingRecords } from '../../../src/node/greeting-records.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { FakeClock, HOUR_MS, imageNumber, NOW, recordingLog, TestPublisher } from '../directory/support.ts'

let folder: string
let catalog: Catalog
let memory: ApplianceMemory
let records: GreetingRecords
let taken: Uint8Array[]
const log = recordingLog()

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowan-greeting-'))
  catalog = await Catalog.open(folder)
  memory = await ApplianceMemory.open({ catalog, log })
  taken = []
  const leases = new Map([[imageNumber(1), new Uint8Array([1])]])
  const directory = {
    leasesFor: (images: readonly string[]) => images.flatMap(image => leases.get(image) ?? []),
    takeLease: async (record: Uint8Array) => void taken.push(record)
  }
  records = new GreetingRecords({ memory, directory, clock: new FakeClock(), log })
})
afterEach(async () => {
  await catalog.close()
  await rm(folder, { recursive: true, force: true })
})

async function leaseOf(appliance: string): Promise<Uint8Array> {
  const times = { sequence: 1, issuedMs: NOW, runningUntilMs: NOW + HOUR_MS, keepUntilMs: 0, givenBack: false }
  return sealLease({ release: `${appliance}@v1`, ...times }, await generateKeyPair('Ed25519'))
}

test('a replica is told of the leases on what is wanted of it, and of no others', async () => {
  const publisher = await TestPublisher.create()
  const latest = await publisher.latest()
  await memory.accept(latest, NOW)
  expect(records.offer([imageNumber(1)])).toEqual([new Uint8Array([1]), latest.bytes])
  expect(records.offer([imageNumber(2)])).toEqual([latest.bytes])
  expect(records.offer([])).toEqual([latest.bytes])
})

test('leases are taken for appliances that this peer has to do with, whatever else comes', async () => {
  const publisher = await TestPublisher.create()
  const latest = await publisher.latest()
  await memory.accept(latest, NOW)
  const known = await leaseOf(latest.appliance)
  await records.receive('peer', known)
  await records.receive('peer', await leaseOf(publisher.appliance('other')))
  const damaged = new Uint8Array(known)
  damaged[damaged.length - 1]! ^= 1
  await records.receive('peer', damaged)
  await records.receive('peer', new Uint8Array(7))
  expect(taken).toEqual([known])
})

test('records are taken of appliances that this peer has to do with, and of no others', async () => {
  const publisher = await TestPublisher.create()
  const latest = await publisher.latest()
  await records.receive('peer', latest.bytes)
  expect(memory.state(latest.appliance)).toBeUndefined()
  await memory.accept(latest, NOW)
  const newer = await publisher.latest({ sequence: latest.sequence + 1 })
  await records.receive('peer', newer.bytes)
  expect(memory.state(latest.appliance)?.sequence).toBe(newer.sequence)
})
