import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ApplianceMemory } from '../../../src/directory/appliance-memory.ts'
import { RememberedAppliance } from '../../../src/directory/proto/directory.js'
import { RowanError } from '../../../src/errors.ts'
import { bytesCodec, Catalog } from '../../../src/store/catalog.ts'
import { NOW, recordingLog, TestPublisher } from './support.ts'

let folder: string
let catalog: Catalog
let memory: ApplianceMemory
let publisher: TestPublisher

const log = recordingLog()
async function restart(): Promise<void> {
  await catalog.close()
  catalog = await Catalog.open(folder)
  memory = await ApplianceMemory.open({ catalog, log })
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowan-memory-'))
  catalog = await Catalog.open(folder)
  memory = await ApplianceMemory.open({ catalog, log })
  publisher = await TestPublisher.create()
})
afterEach(async () => {
  await catalog.close()
  await rm(folder, { recursive: true, force: true })
})

describe('the release rules at a client', () => {
  test('remembers the newest record, over a restart', async () => {
    const first = await publisher.latest({ sequence: 1 })
    const second = await publisher.latest({ sequence: 2 })
    expect(await memory.accept(first, NOW)).toBe('newer')
    expect(await memory.accept(second, NOW)).toBe('newer')
    expect(await memory.accept(second, NOW)).toBe('same')
    await restart()
    expect(memory.get(first.appliance)?.latest).toMatchObject({
      digest: second.digest,
      sequence: 2,
      delegationSequence: 1
    })
    expect(Buffer.compare(memory.get(first.appliance)!.latest.bytes, second.bytes)).toBe(0)
    expect(memory.all().map(({ latest }) => latest.sequence)).toEqual([2])
    expect(memory.get(`${publisher.id}/other`)).toBeUndefined()
  })

  test('never goes below a sequence number that it has seen, also after a restart', async () => {
    const older = await publisher.latest({ sequence: 6 })
    await memory.accept(await publisher.latest({ sequence: 7 }), NOW)
    await expect(memory.accept(older, NOW)).rejects.toMatchObject({ code: 'LATEST_ROLLBACK' })
    await restart()
    await expect(memory.accept(older, NOW)).rejects.toMatchObject({ code: 'LATEST_ROLLBACK' })
    expect(memory.get(older.appliance)?.latest.sequence).toBe(7)
  })

  test('refuses both of two records with one number, until a higher one comes', async () => {
    const one = await publisher.latest({ sequence: 3, label: 'one' })
    const other = await publisher.latest({ sequence: 3, label: 'other' })
    await memory.accept(one, NOW)
    await expect(memory.accept(other, NOW)).rejects.toMatchObject({ code: 'LATEST_CONFLICT' })
    expect(memory.get(one.appliance)).toBeUndefined()
    await restart()
    expect(memory.state(one.appliance)).toMatchObject({ sequence: 3, conflict: true })
    await expect(memory.accept(one, NOW)).rejects.toMatchObject({ code: 'LATEST_CONFLICT' })
    const next = await publisher.latest({ sequence: 4 })
    expect(await memory.accept(next, NOW)).toBe('newer')
    expect(memory.get(one.appliance)?.latest.sequence).toBe(4)
  })

  test('refuses what a revoked delegation has signed, for all appliances of the publisher', async () => {
    const before = await publisher.latest({ name: 'desk', sequence: 1, delegation: 1 })
    await memory.accept(before, NOW)
    await memory.accept(await publisher.latest({ name: 'grid', sequence: 1, delegation: 2 }), NOW)
    await restart()
    const revoked = await publisher.latest({ name: 'grid', sequence: 9, delegation: 1 })
    await expect(memory.accept(revoked, NOW)).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' })
    expect(memory.get(before.appliance)).toBeUndefined()
    expect(memory.state(before.appliance)).toMatchObject({ revoked: true, sequence: 1 })
    const renewed = await publisher.latest({ name: 'desk', sequence: 2, delegation: 2 })
    await memory.accept(renewed, NOW)
    expect(memory.get(before.appliance)?.latest.sequence).toBe(2)
  })

  test('a higher delegation supersedes whatever number a lower one has signed, also after a restart', async () => {
    const stolen = await publisher.latest({ sequence: Number.MAX_SAFE_INTEGER, delegation: 1 })
    await memory.accept(stolen, NOW)
    await restart()
    const rotated = await publisher.rotated()
    const healed = await rotated.latest({ sequence: 1, delegation: 2 })
    expect(await memory.accept(healed, NOW)).toBe('newer')
    expect(await memory.accept(healed, NOW)).toBe('same')
    await restart()
    expect(memory.get(stolen.appliance)?.latest.digest).toBe(healed.digest)
    await expect(memory.accept(stolen, NOW)).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' })
    await memory.accept(await rotated.latest({ sequence: 2, delegation: 2 }), NOW)
    await expect(memory.accept(healed, NOW)).rejects.toMatchObject({ code: 'LATEST_ROLLBACK' })
  })

  test('one number under two delegations is no conflict, and ends one under the lower', async () => {
    const one = await publisher.latest({ sequence: 3, delegation: 1, label: 'one' })
    const other = await publisher.latest({ sequence: 3, delegation: 1, label: 'other' })
    await memory.accept(one, NOW)
    await expect(memory.accept(other, NOW)).rejects.toMatchObject({ code: 'LATEST_CONFLICT' })
    const higher = await publisher.latest({ sequence: 3, delegation: 2 })
    expect(await memory.accept(higher, NOW)).toBe('newer')
    expect(memory.get(one.appliance)?.latest.digest).toBe(higher.digest)
    const twin = await publisher.latest({ sequence: 3, delegation: 2, label: 'twin' })
    await expect(memory.accept(twin, NOW)).rejects.toMatchObject({ code: 'LATEST_CONFLICT' })
  })

  test('a record whose writing failed is written when it comes again', async () => {
    const latest = await publisher.latest()
    const write = vi.spyOn(catalog, 'write').mockRejectedValueOnce(new RowanError('DISK_FULL', 'full'))
    await expect(memory.accept(latest, NOW)).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(await memory.accept(latest, NOW)).toBe('same')
    expect(await memory.accept(latest, NOW)).toBe('same')
    expect(write).toHaveBeenCalledTimes(2)
    expect(write.mock.lastCall?.[1]).toEqual({ sync: true })
    await restart()
    expect(memory.get(latest.appliance)?.latest.sequence).toBe(1)
  })

  test('a record that rotted on disk keeps its number in force, and is healed by the same record', async () => {
    const latest = await publisher.latest({ sequence: 5 })
    await memory.accept(latest, NOW)
    const table = () => catalog.table('appliances', bytesCodec)
    const stored = RememberedAppliance.decode((await table().get(latest.appliance))!)
    stored.bytes[50]! ^= 1
    await table().put(latest.appliance, RememberedAppliance.encode(stored))
    await restart()
    expect(memory.get(latest.appliance)).toBeUndefined()
    await expect(memory.accept(await publisher.latest({ sequence: 4 }), NOW)).rejects.toMatchObject({
      code: 'LATEST_ROLLBACK'
    })
    expect(await memory.accept(latest, NOW)).toBe('same')
    expect(memory.get(latest.appliance)?.latest.sequence).toBe(5)
    await table().put(latest.appliance, Uint8Array.of(255, 255))
    await restart()
    expect(log.lines.at(-1)?.message).toBe('what was remembered of an appliance cannot be read')
  })
})
