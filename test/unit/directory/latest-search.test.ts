import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ApplianceMemory } from '../../../src/directory/appliance-memory.ts'
import type { HolderAnswer } from '../../../src/directory/directory-client.ts'
import { LatestSearch } from '../../../src/directory/latest-search.ts'
import type { DirectoryRequest } from '../../../src/directory/messages.ts'
import type { VerifiedLatest } from '../../../src/image/release.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { NOW, recordingLog, TestPublisher } from './support.ts'

let folder: string
let catalog: Catalog
let memory: ApplianceMemory
let publisher: TestPublisher
let search: LatestSearch

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowan-search-'))
  catalog = await Catalog.open(folder)
  memory = await ApplianceMemory.open({ catalog, log: recordingLog() })
  publisher = await TestPublisher.create()
  search = new LatestSearch({ memory, now: () => NOW }, { appliance: publisher.appliance() })
})
afterEach(async () => {
  await catalog.close()
  await rm(folder, { recursive: true, force: true })
})

type Answer = { record?: Uint8Array; same?: boolean; conflict?: boolean; second?: Uint8Array }

/** A holder that gives this answer, whatever it is asked. */
const says =
  (answer: Answer, asked: Partial<DirectoryRequest>[] = []) =>
  async (request: Partial<DirectoryRequest>): Promise<HolderAnswer> => {
    asked.push(request)
    const chosen = request.latest?.second ? answer.second : answer.record
    const latest = {
      record: new Uint8Array(chosen ?? []),
      same: answer.same ?? false,
      conflict: answer.conflict ?? false,
      replicas: [],
      heldSinceMs: 0
    }
    return { response: { status: 0, outcomes: [], latest }, met: 0 }
  }

describe('a search for the newest record', () => {
  test('the higher number wins, however many offer the lower one', async () => {
    const old = await publisher.latest({ sequence: 1 })
    const current = await publisher.latest({ sequence: 2 })
    for (let i = 0; i < 10; i++) await search.consult(`stale${i}`, says({ record: old.bytes }))
    await search.consult('fresh', says({ record: current.bytes }))
    expect(search.result()?.sequence).toBe(2)
  })

  test('goes on until five have answered and three agree on the newest', async () => {
    const latest = await publisher.latest({ sequence: 2 })
    const old = await publisher.latest({ sequence: 1 })
    const answers: [VerifiedLatest | undefined, boolean][] = [
      [old, false],
      [old, false],
      [undefined, false],
      [old, false],
      [old, true],
      [latest, false],
      [latest, false],
      [latest, true]
    ]
    for (const [i, [record, isEnough]] of answers.entries()) {
      await search.consult(`h${i}`, says(record === undefined ? {} : { record: record.bytes }))
      expect(search.isEnough(i + 1, 20)).toBe(isEnough)
    }
  })

  test('the higher delegation wins over every number, however many offer the lower one', async () => {
    const stolen = await publisher.latest({ sequence: Number.MAX_SAFE_INTEGER, delegation: 1 })
    const healed = await (await publisher.rotated()).latest({ sequence: 1, delegation: 2 })
    for (let i = 0; i < 4; i++) await search.consult(`stale${i}`, says({ record: stolen.bytes }))
    await search.consult('fresh', says({ record: healed.bytes }))
    // Those that agree on the lower one do not count.
    expect(search.isEnough(5, 20)).toBe(false)
    expect(search.result()?.digest).toBe(healed.digest)
    await search.consult('late', says({ record: stolen.bytes }))
    expect(search.refused).toMatchObject([{ peer: 'late', code: 'SIGNATURE_INVALID' }])
  })

  test('holders that agree on a record that has expired are not enough', async () => {
    const expired = await publisher.latest({ sequence: 1, issuedMs: NOW - 10, expiresMs: NOW })
    for (let i = 0; i < 10; i++) await search.consult(`stale${i}`, says({ record: expired.bytes }))
    expect(search.isEnough(10, 20)).toBe(false)
    const renewed = await publisher.latest({ sequence: 2 })
    for (let i = 0; i < 3; i++) await search.consult(`fresh${i}`, says({ record: renewed.bytes }))
    expect(search.isEnough(13, 20)).toBe(true)
  })

  test('with few holders all of them are enough', async () => {
    const latest = await publisher.latest()
    expect(search.isEnough(1, 1)).toBe(false)
    await search.consult('only', says({ record: latest.bytes }))
    expect(search.isEnough(1, 1)).toBe(true)
    expect(search.isEnough(1, 2)).toBe(false)
  })

  test('asks only for what it does not have', async () => {
    const latest = await publisher.latest()
    await memory.accept(latest, NOW)
    const asked: Partial<DirectoryRequest>[] = []
    await search.consult('h', says({ same: true }, asked))
    expect(Buffer.from(asked[0]!.latest!.knownDigest).toString('hex')).toBe(latest.digest)
    expect(search.result()?.digest).toBe(latest.digest)
  })

  test('a holder that says "the same" without having been told of any is not believed', async () => {
    await search.consult('h', says({ same: true }))
    expect(search.result()).toBeUndefined()
  })

  test('what is older than the memory is refused; the memory is not an offer', async () => {
    const old = await publisher.latest({ sequence: 1 })
    await memory.accept(await publisher.latest({ sequence: 2 }), NOW)
    await search.consult('h', says({ record: old.bytes }))
    expect(search.refused).toMatchObject([{ peer: 'h', code: 'LATEST_ROLLBACK' }])
    expect(search.result()).toBeUndefined()
  })

  test('a record of another appliance, or a spoiled one, is refused and the search goes on', async () => {
    const other = await publisher.latest({ name: 'desk' })
    const spoiled = new Uint8Array((await publisher.latest()).bytes)
    spoiled[spoiled.length - 3]! ^= 1
    await search.consult('a', says({ record: other.bytes }))
    await search.consult('b', says({ record: spoiled }))
    await search.consult('c', says({ record: (await publisher.latest()).bytes }))
    expect(search.refused.map(({ peer, code }) => [peer, code])).toEqual([
      ['a', 'RECORD_INVALID'],
      ['b', 'SIGNATURE_INVALID']
    ])
    expect(search.result()?.sequence).toBe(1)
    expect(memory.state(other.appliance)).toBeUndefined()
  })

  test('a conflict takes back what was accepted; the evidence is asked for', async () => {
    const one = await publisher.latest({ sequence: 3, label: 'one' })
    const other = await publisher.latest({ sequence: 3, label: 'other' })
    await search.consult('a', says({ record: one.bytes }))
    expect(search.result()?.digest).toBe(one.digest)
    await search.consult('b', says({ record: one.bytes, conflict: true, second: other.bytes }))
    expect(search.result()).toBeUndefined()
    expect(search.refused).toMatchObject([{ peer: 'b', code: 'LATEST_CONFLICT' }])
  })

  test('a holder that only claims a conflict changes nothing', async () => {
    const one = await publisher.latest({ sequence: 3 })
    await search.consult('a', says({ record: one.bytes, conflict: true, second: one.bytes }))
    await search.consult('b', says({ record: one.bytes, conflict: true }))
    expect(search.result()?.digest).toBe(one.digest)
    expect(search.refused).toEqual([])
  })
})
