import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { LatestRecord } from '../../../src/directory/held-latest.ts'
import type { LeaseEntry } from '../../../src/directory/held-leases.ts'
import type { ReplicaEntry } from '../../../src/directory/held-replicas.ts'
import { Holder } from '../../../src/directory/holder.ts'
import { HolderStore, MAX_UNWRITTEN } from '../../../src/directory/holder-store.ts'
import { MAX_LEASES_PER_KEY, TENURE_GAP_MS } from '../../../src/directory/limits.ts'
import { RowanError } from '../../../src/errors.ts'
import { bytesCodec, Catalog } from '../../../src/store/catalog.ts'
import { mountSmallDisk, unmountSmallDisks } from '../store/tools.ts'
import {
  DAY_MS,
  HOUR_MS,
  imageNumber,
  latestEntry,
  leaseEntry,
  NOW,
  RELEASE,
  recordingLog,
  replicaEntry,
  seeded
} from './support.ts'

let folder: string
let catalog: Catalog
let log: ReturnType<typeof recordingLog>

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowan-holder-'))
  catalog = await Catalog.open(folder)
  log = recordingLog()
})
afterEach(async () => {
  await catalog.close()
  await rm(folder, { recursive: true, force: true })
})

async function startHolder(now: number, quotaBytes = 1_000_000) {
  await catalog.close()
  catalog = await Catalog.open(folder)
  const holder = new Holder({ random: seeded(1) }, { quotaBytes })
  const store = new HolderStore({ catalog, log })
  const count = await store.load(holder, now)
  const put = async (record: LatestRecord | ReplicaEntry | LeaseEntry, at: number) => {
    const { outcome, changes } = holder.put(record, at)
    await store.apply(changes)
    return outcome
  }
  return { holder, store, count, put }
}

describe('a holder that was restarted', () => {
  test('still knows who uses what, what it did not keep, what was given back, and its tenure', async () => {
    const first = await startHolder(NOW)
    const ask = async (holder: Holder, now: number) => holder.getSharers(RELEASE, now).found
    await first.put(leaseEntry({ keepUntilMs: NOW + DAY_MS, sequence: 5 }), NOW)
    await first.put(leaseEntry({ signer: 'gone', hash: 0.25 }), NOW)
    await first.put(leaseEntry({ signer: 'gone', hash: 0.25, sequence: 2, givenBack: true }), NOW + 1)
    for (let i = 0; i < MAX_LEASES_PER_KEY; i++) {
      await first.put(leaseEntry({ signer: `s${i}`, hash: i / 1e6, runningUntilMs: NOW + HOUR_MS }), NOW + 2)
    }
    const before = await ask(first.holder, NOW + 10)
    expect(before).toMatchObject({ all: false, inUseUntilMs: NOW + DAY_MS, tenureMs: 10 })
    await first.store.awake(NOW + 10)

    const second = await startHolder(NOW + 20)
    expect(await ask(second.holder, NOW + 20)).toEqual({ ...before, tenureMs: 20 })
    expect(await second.put(leaseEntry({ signer: 'gone', hash: 0.25 }), NOW + 21)).toBe('older')
    await second.store.awake(NOW + 21)

    // After a long sleep it knows what it knew, and does not vouch for the time between.
    const late = NOW + 22 + TENURE_GAP_MS
    const third = await startHolder(late)
    expect(await ask(third.holder, late)).toMatchObject({ inUseUntilMs: NOW + DAY_MS, tenureMs: 0 })
    // What has expired meanwhile is gone from the disk too.
    const last = await startHolder(NOW + 2 * DAY_MS)
    expect(last.count).toBe(0)
    expect(await ask(last.holder, NOW + 2 * DAY_MS)).toMatchObject({ hashes: [], all: true, inUseUntilMs: 0 })
  })

  test('remembers until when leases run that it has no room for any more', async () => {
    const first = await startHolder(NOW)
    await first.put(leaseEntry({ hash: 0.9, keepUntilMs: NOW + DAY_MS }), NOW)
    for (let i = 0; i < 100; i++) await first.put(leaseEntry({ signer: `s${i}`, hash: i / 1e6 }), NOW)
    await first.store.awake(NOW + 5)
    for (const now of [NOW + 10, NOW + 20]) {
      // Its owner gave it less memory.
      const next = await startHolder(now, 100_000)
      expect(next.count).toBeLessThan(100)
      const { found } = next.holder.getSharers(RELEASE, now)
      expect(found).toMatchObject({ all: false, inUseUntilMs: NOW + DAY_MS, tenureMs: now - NOW })
    }
  })

  test('drops leases that cannot be read, and does not vouch for that time', async () => {
    const first = await startHolder(NOW)
    await first.put(leaseEntry(), NOW)
    await first.store.awake(NOW)
    const row = `${RELEASE}/${leaseEntry().signer}`
    await catalog.table('holder-leases', bytesCodec).put(row, new Uint8Array([255, 255]))
    const second = await startHolder(NOW + 1)
    expect(second.count).toBe(0)
    expect(second.holder.getSharers(RELEASE, NOW + 1).found).toMatchObject({ hashes: [], tenureMs: 0 })
    const third = await startHolder(NOW + 3)
    expect(third.holder.getSharers(RELEASE, NOW + 3).found.tenureMs).toBe(2)
  })

  test('still has what it held, with conflicts, marks and tenure', async () => {
    const first = await startHolder(NOW)
    await first.put(latestEntry({ sequence: 3, digest: 'a', delegationSequence: 2 }), NOW)
    await first.put(latestEntry({ sequence: 3, digest: 'b', delegationSequence: 2 }), NOW + 1)
    await first.put(replicaEntry({ met: 2 }), NOW + 2)
    await first.put(replicaEntry({ signer: 'peer-2', verified: false, complete: false }), NOW + 3)
    const before = [
      first.holder.getLatest('publisher-1/grid', NOW + 5),
      first.holder.getReplicas(imageNumber(1), NOW + 5)
    ]
    await first.store.awake(NOW + 5)

    const second = await startHolder(NOW + TENURE_GAP_MS)
    expect(second.count).toBe(3)
    const { held, replicas } = second.holder.getLatest('publisher-1/grid', NOW + 5)
    expect({ ...held, issuedMs: NOW }).toEqual((before[0] as { held: object }).held)
    expect(held?.conflicting).toBeDefined()
    expect(replicas).toEqual(second.holder.getReplicas(imageNumber(1), NOW + 5).replicas)
    expect(replicas.map(({ signer, verified, complete, met }) => ({ signer, verified, complete, met }))).toEqual([
      { signer: 'peer-1', verified: true, complete: true, met: 2 },
      { signer: 'peer-2', verified: false, complete: false, met: 0 }
    ])
    expect(second.holder.getReplicas(imageNumber(1), NOW + 5).heldSinceMs).toBe(NOW + 2)
    expect(await second.put(latestEntry({ sequence: 9, delegationSequence: 1 }), NOW + 6)).toBe('revoked')
  })

  test('has lost its tenure if it was away for long, and what expired meanwhile', async () => {
    const first = await startHolder(NOW)
    await first.put(latestEntry(), NOW)
    await first.put(replicaEntry({ expiresMs: NOW + HOUR_MS }), NOW)
    const second = await startHolder(NOW + DAY_MS)
    expect(second.count).toBe(1)
    expect(second.holder.getLatest('publisher-1/grid', NOW + DAY_MS).held?.heldSinceMs).toBe(NOW + DAY_MS)
    const third = await startHolder(NOW + DAY_MS)
    expect(third.count).toBe(1)
  })

  test('drops what was withdrawn or pushed out', async () => {
    const first = await startHolder(NOW)
    await first.put(replicaEntry({ sequence: 1 }), NOW)
    await first.put(replicaEntry({ sequence: 2, expiresMs: NOW }), NOW)
    expect((await startHolder(NOW)).count).toBe(0)
  })

  test('drops an entry that cannot be read, and says so', async () => {
    const first = await startHolder(NOW)
    await first.put(latestEntry(), NOW)
    await catalog.table('holder', bytesCodec).put('latest/rotten/one', Uint8Array.of(255, 255, 255))
    const second = await startHolder(NOW)
    expect(second.count).toBe(1)
    expect(log.lines.map(line => line.message)).toEqual(['an entry of the holder cannot be read; dropped'])
    expect(await catalog.table('holder', bytesCodec).get('latest/rotten/one')).toBeUndefined()
  })
})

test('a holder on a full disk goes on holding, and says so', async () => {
  const { put, holder } = await startHolder(NOW)
  vi.spyOn(catalog, 'write').mockRejectedValue(new RowanError('DISK_FULL', 'the disk is full'))
  expect(await put(latestEntry(), NOW)).toBe('kept')
  expect(holder.getLatest('publisher-1/grid', NOW).held).toBeDefined()
  expect(log.lines.at(-1)).toMatchObject({ level: 'warn', values: { code: 'DISK_FULL' } })
})

test('what a full or read-only disk did not take is written when it does, before the mark of being awake', async () => {
  const first = await startHolder(NOW)
  const write = vi.spyOn(catalog, 'write').mockRejectedValue(new RowanError('DISK_FULL', 'the disk is full'))
  await first.put(leaseEntry(), NOW)
  await first.store.awake(NOW + 1000)
  write.mockRestore()
  // Nobody sends the lease again; the next sweep brings it to the disk.
  await first.store.awake(NOW + 2000)
  const second = await startHolder(NOW + 3000)
  const { found } = second.holder.getSharers(leaseEntry().key, NOW + 3000)
  expect(found.hashes).toHaveLength(1)
  expect(found.tenureMs).toBe(3000)
})

test('what failed to be written does not come after what was written later', async () => {
  const first = await startHolder(NOW)
  const failing = Promise.withResolvers<void>()
  vi.spyOn(catalog, 'write').mockImplementationOnce(() => failing.promise)
  const older = first.put(leaseEntry({ sequence: 2 }), NOW)
  const newer = first.put(leaseEntry({ sequence: 3 }), NOW)
  await new Promise(setImmediate)
  failing.reject(new RowanError('DISK_FULL', 'the disk was full for a moment'))
  await Promise.all([older, newer])
  await first.store.awake(NOW + 1000)
  const second = await startHolder(NOW + 2000)
  expect(await second.put(leaseEntry({ sequence: 3 }), NOW + 2000)).toBe('known')
})

test('a holder that could not write for long begins its tenure anew after a restart', async () => {
  const first = await startHolder(NOW)
  await first.put(leaseEntry({ signer: 'before' }), NOW)
  vi.spyOn(catalog, 'write').mockRejectedValue(new RowanError('STORE_IO', 'read-only file system'))
  await first.put(leaseEntry({ signer: 'lost' }), NOW + 1000)
  for (let minute = 1; minute <= 11; minute++) await first.store.awake(NOW + minute * 60_000)
  vi.restoreAllMocks()
  const second = await startHolder(NOW + 11 * 60_000)
  expect(second.holder.getSharers(leaseEntry().key, NOW + 11 * 60_000).found.tenureMs).toBe(0)
})

test('with more changes than wait for the disk the tenure begins anew after a restart', async () => {
  const first = await startHolder(NOW)
  await first.put(leaseEntry(), NOW)
  const write = vi.spyOn(catalog, 'write').mockRejectedValue(new RowanError('DISK_FULL', 'the disk is full'))
  const note = { sinceMs: NOW, contactMs: NOW, unkeptUntilMs: 0 }
  const many = Array.from({ length: MAX_UNWRITTEN + 1 }, (_, i) => ({
    kind: 'note' as const,
    release: `p/a@v${i}`,
    note
  }))
  await first.store.apply(many)
  write.mockRestore()
  await first.store.awake(NOW + 1000)
  const second = await startHolder(NOW + 1000)
  expect(second.holder.getSharers(leaseEntry().key, NOW + 1000).found.tenureMs).toBe(0)
})

test('a holder on a disk that is really full has what it was told when there is room again, also after a restart', async () => {
  await catalog.close()
  const disk = mountSmallDisk(12)
  try {
    const filler = join(disk, 'filler')
    catalog = await Catalog.open(join(disk, 'catalog'))
    const holder = new Holder({ random: seeded(1) }, { quotaBytes: 1_000_000 })
    const store = new HolderStore({ catalog, log })
    await store.load(holder, NOW)
    const fill = await open(filler, 'w')
    await fill.write(Buffer.alloc(12 << 20)).catch(() => undefined)
    await fill.close()
    // The free space is looked at from time to time, not at each write.
    let outcome = ''
    for (let i = 0; i < 1200 && log.lines.at(-1)?.level !== 'warn'; i++) {
      const { changes, ...put } = holder.put(leaseEntry({ signer: `s${i}`, hash: i / 2000 }), NOW)
      outcome = put.outcome
      await store.apply(changes)
    }
    expect(outcome).toBe('kept')
    expect(log.lines.at(-1)).toMatchObject({ level: 'warn', values: { code: 'DISK_FULL' } })
    await rm(filler)
    await store.awake(NOW + 1)
    await catalog.close()
    catalog = await Catalog.open(join(disk, 'catalog'))
    const again = new Holder({ random: seeded(1) }, { quotaBytes: 1_000_000 })
    await new HolderStore({ catalog, log }).load(again, NOW + 2)
    const asked = (each: Holder) => each.getSharers(leaseEntry().key, NOW + 2).found
    expect(asked(again).hashes).toEqual(asked(holder).hashes)
    expect(asked(again).tenureMs).toBe(2)
  } finally {
    await catalog.close()
    unmountSmallDisks()
    catalog = await Catalog.open(folder)
  }
})
