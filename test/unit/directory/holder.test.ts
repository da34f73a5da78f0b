import { describe, expect, test } from 'vitest'
import { Holder } from '../../../src/directory/holder.ts'
import {
  CLOCK_SKEW_MS,
  MAX_LATEST_TTL_MS,
  MAX_RECORDS_PER_SIGNER,
  MAX_REPLICA_TTL_MS,
  MAX_REPLICAS_PER_KEY,
  MAX_UNVERIFIED_PER_KEY,
  REPLICAS_PER_ANSWER,
  TABLE_SHARE
} from '../../../src/directory/limits.ts'
import { HOUR_MS, imageNumber, latestEntry, NOW, replicaEntry, seeded } from './support.ts'

const newHolder = (quotaBytes = 64 * 1024 * 1024) => new Holder({ random: seeded(1) }, { quotaBytes })
const APPLIANCE = latestEntry().key
const IMAGE = imageNumber(1)

describe('the latest table of a holder', () => {
  test('keeps the highest sequence number and refuses older ones', () => {
    const holder = newHolder()
    expect(holder.put(latestEntry({ sequence: 5 }), NOW).outcome).toBe('kept')
    expect(holder.put(latestEntry({ sequence: 4 }), NOW).outcome).toBe('older')
    expect(holder.getLatest(APPLIANCE, NOW).held?.sequence).toBe(5)
    expect(holder.put(latestEntry({ sequence: 6 }), NOW).outcome).toBe('kept')
    expect(holder.getLatest(APPLIANCE, NOW).held?.sequence).toBe(6)
  })

  test('the same record again is known and changes nothing', () => {
    const holder = newHolder()
    holder.put(latestEntry(), NOW)
    expect(holder.put(latestEntry(), NOW + 1)).toEqual({ outcome: 'known', changes: [] })
  })

  test('is forgotten when it expires, before any sweep', () => {
    const holder = newHolder()
    holder.put(latestEntry({ sequence: 9, expiresMs: NOW + 1000 }), NOW)
    expect(holder.getLatest(APPLIANCE, NOW + 999).held?.sequence).toBe(9)
    expect(holder.getLatest(APPLIANCE, NOW + 1000).held).toBeUndefined()
    expect(holder.put(latestEntry({ sequence: 2 }), NOW + 1000).outcome).toBe('kept')
    expect(holder.usage('latest').records).toBe(1)
  })

  test('an expired record, and one from too far in the future, are refused', () => {
    const holder = newHolder()
    const put = (values: Parameters<typeof latestEntry>[0]) => holder.put(latestEntry(values), NOW).outcome
    expect(put({ expiresMs: NOW })).toBe('expired')
    expect(put({ issuedMs: NOW + CLOCK_SKEW_MS + 1 })).toBe('future')
    expect(put({ expiresMs: NOW + MAX_LATEST_TTL_MS + CLOCK_SKEW_MS + 1 })).toBe('future')
    expect(put({ issuedMs: NOW + CLOCK_SKEW_MS, expiresMs: NOW + MAX_LATEST_TTL_MS + CLOCK_SKEW_MS })).toBe('kept')
  })

  test('two records with one number are both kept as evidence, until a higher one comes', () => {
    const holder = newHolder()
    holder.put(latestEntry({ sequence: 3, digest: 'a', bytes: Uint8Array.of(1) }), NOW)
    const { outcome, changes } = holder.put(latestEntry({ sequence: 3, digest: 'b', bytes: Uint8Array.of(2) }), NOW)
    expect(outcome).toBe('conflict')
    expect(changes).toHaveLength(1)
    const { held } = holder.getLatest(APPLIANCE, NOW)
    expect([held?.bytes, held?.conflicting]).toEqual([Uint8Array.of(1), Uint8Array.of(2)])
    for (const digest of ['a', 'b', 'c']) {
      expect(holder.put(latestEntry({ sequence: 3, digest }), NOW).outcome).toBe('conflict')
    }
    expect(holder.put(latestEntry({ sequence: 4 }), NOW).outcome).toBe('kept')
    expect(holder.getLatest(APPLIANCE, NOW).held?.conflicting).toBeUndefined()
  })

  test('a revoked delegation is refused, also for another appliance of the publisher', () => {
    const holder = newHolder()
    holder.put(latestEntry({ delegationSequence: 2 }), NOW)
    expect(holder.put(latestEntry({ sequence: 9, delegationSequence: 1 }), NOW).outcome).toBe('revoked')
    const other = latestEntry({ key: 'publisher-1/desk', delegationSequence: 1 })
    expect(holder.put(other, NOW).outcome).toBe('revoked')
    expect(holder.put({ ...other, delegationSequence: 2 }, NOW).outcome).toBe('kept')
    const stranger = latestEntry({ key: 'publisher-2/grid', signer: 'publisher-2', delegationSequence: 1 })
    expect(holder.put(stranger, NOW).outcome).toBe('kept')
  })

  test('a higher delegation supersedes whatever number a lower one has signed', () => {
    const holder = newHolder()
    const put = (delegationSequence: number, sequence: number, digest = 'a') =>
      holder.put(latestEntry({ delegationSequence, sequence, digest }), NOW).outcome
    expect(put(1, Number.MAX_SAFE_INTEGER)).toBe('kept')
    expect(put(1, Number.MAX_SAFE_INTEGER, 'b')).toBe('conflict')
    expect(put(2, 1)).toBe('kept')
    expect(holder.getLatest(APPLIANCE, NOW).held).toMatchObject({ delegationSequence: 2, sequence: 1 })
    expect(holder.getLatest(APPLIANCE, NOW).held?.conflicting).toBeUndefined()
    expect(put(1, Number.MAX_SAFE_INTEGER)).toBe('revoked')
    // One number under two delegations is no conflict.
    expect(put(3, 1, 'c')).toBe('kept')
    expect(put(3, 1, 'd')).toBe('conflict')
    expect(put(3, 0)).toBe('older')
  })

  test('what a revoked key has signed leaves, and takes none of the room of its publisher', () => {
    const holder = newHolder()
    const put = (name: string, delegationSequence: number) =>
      holder.put(
        latestEntry({ key: `p/${name}`, signer: 'p', delegationSequence, sequence: 9, sizeBytes: 256 * 1024 }),
        NOW
      )
    const stolen: string[] = []
    while (put(`x${stolen.length}`, 1).outcome === 'kept') stolen.push(`p/x${stolen.length}`)
    expect(put('mine', 1).outcome).toBe('full-signer')
    const { outcome, changes } = put('mine', 2)
    expect(outcome).toBe('kept')
    expect(changes.filter(change => change.kind === 'drop').map(change => change.key)).toEqual(stolen)
    expect(holder.getLatest(stolen[0]!, NOW).held).toBeUndefined()
    expect(holder.usage('latest')).toMatchObject({ records: 1, keys: 1 })
  })

  test('what was revoked and comes back from disk is not given out', () => {
    const holder = newHolder()
    const held = (key: string, delegationSequence: number) => ({
      ...latestEntry({ key, delegationSequence }),
      heldSinceMs: NOW
    })
    expect(holder.restore(held('publisher-1/desk', 1))).toBe(true)
    expect(holder.restore(held('publisher-1/grid', 2))).toBe(true)
    expect(holder.restore(held('publisher-1/home', 1))).toBe(false)
    expect(holder.getLatest('publisher-1/desk', NOW).held).toBeUndefined()
    expect(holder.expire(NOW)).toMatchObject([{ kind: 'drop', key: 'publisher-1/desk' }])
    expect(holder.usage('latest').records).toBe(1)
  })

  test('answers with replicas of the current images, each with a share', () => {
    const holder = newHolder()
    holder.put(latestEntry({ images: [imageNumber(1), imageNumber(2)] }), NOW)
    for (let i = 0; i < 50; i++) {
      holder.put(replicaEntry({ key: imageNumber(1), signer: `a${i}` }), NOW)
      holder.put(replicaEntry({ key: imageNumber(2), signer: `b${i}` }), NOW)
    }
    const { replicas } = holder.getLatest(APPLIANCE, NOW)
    expect(replicas).toHaveLength(REPLICAS_PER_ANSWER)
    expect(replicas.filter(held => held.key === imageNumber(2))).toHaveLength(REPLICAS_PER_ANSWER / 2)
  })
})

describe('the replicas table of a holder', () => {
  test('keeps 256 for an image; incumbents come before newcomers, and may renew', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_REPLICAS_PER_KEY; i++) {
      expect(holder.put(replicaEntry({ signer: `p${i}` }), NOW).outcome).toBe('kept')
    }
    expect(holder.put(replicaEntry({ signer: 'newcomer' }), NOW).outcome).toBe('full-key')
    expect(holder.put(replicaEntry({ signer: 'p7', sequence: 2 }), NOW).outcome).toBe('kept')
    expect(holder.usage('replicas').records).toBe(MAX_REPLICAS_PER_KEY)
  })

  test('the place of one that expired goes to a newcomer at once', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_REPLICAS_PER_KEY; i++) {
      holder.put(replicaEntry({ signer: `p${i}`, expiresMs: NOW + (i === 0 ? 10 : 1000) }), NOW)
    }
    const { outcome, changes } = holder.put(replicaEntry({ signer: 'newcomer' }), NOW + 10)
    expect(outcome).toBe('kept')
    expect(changes.map(change => change.kind)).toEqual(['drop', 'keep'])
  })

  test('those that nobody has reached have few places, and make way for one that was reached', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_UNVERIFIED_PER_KEY; i++) {
      expect(holder.put(replicaEntry({ signer: `u${i}`, verified: false }), NOW).outcome).toBe('kept')
    }
    expect(holder.put(replicaEntry({ signer: 'u', verified: false }), NOW).outcome).toBe('unverified')
    for (let i = 0; i < MAX_REPLICAS_PER_KEY; i++) {
      expect(holder.put(replicaEntry({ signer: `v${i}` }), NOW).outcome).toBe('kept')
    }
    expect(holder.put(replicaEntry({ signer: 'newcomer' }), NOW).outcome).toBe('full-key')
    const sample = holder.getReplicas(IMAGE, NOW).replicas
    expect(sample.every(held => held.verified)).toBe(true)
  })

  test('a record counts as verified once its peer was reached, but not another record of that peer', () => {
    const holder = newHolder()
    const entry = replicaEntry({ verified: false })
    holder.put(entry, NOW)
    expect(holder.markVerified(IMAGE, entry.signer, 'another digest')).toEqual([])
    expect(holder.markVerified(IMAGE, entry.signer, entry.digest)).toHaveLength(1)
    expect(holder.getReplicas(IMAGE, NOW).replicas[0]?.verified).toBe(true)
  })

  test('the higher sequence number counts; an equal one with other content is refused', () => {
    const holder = newHolder()
    holder.put(replicaEntry({ sequence: 5, complete: false }), NOW)
    expect(holder.put(replicaEntry({ sequence: 4 }), NOW).outcome).toBe('older')
    expect(holder.put(replicaEntry({ sequence: 5 }), NOW).outcome).toBe('conflict')
    expect(holder.put(replicaEntry({ sequence: 6, complete: true }), NOW).outcome).toBe('kept')
    expect(holder.getReplicas(IMAGE, NOW).replicas.map(held => held.complete)).toEqual([true])
  })

  test('a newer record that has expired withdraws the older one', () => {
    const holder = newHolder()
    expect(holder.put(replicaEntry({ sequence: 1, expiresMs: NOW }), NOW).outcome).toBe('expired')
    holder.put(replicaEntry({ sequence: 2 }), NOW)
    expect(holder.put(replicaEntry({ sequence: 1, expiresMs: NOW }), NOW).outcome).toBe('older')
    expect(holder.put(replicaEntry({ sequence: 3, expiresMs: NOW }), NOW).outcome).toBe('withdrawn')
    expect(holder.getReplicas(IMAGE, NOW).replicas).toEqual([])
    expect(holder.usage('replicas')).toEqual({ records: 0, bytes: 0, keys: 0 })
  })

  test('an expiry too far in the future is refused', () => {
    const holder = newHolder()
    const expiresMs = NOW + MAX_REPLICA_TTL_MS + CLOCK_SKEW_MS + 1
    expect(holder.put(replicaEntry({ expiresMs }), NOW).outcome).toBe('future')
  })

  test('an answer mixes full and partial replicas, and is random', () => {
    const holder = newHolder()
    for (let i = 0; i < 100; i++) {
      holder.put(replicaEntry({ signer: `full${i}` }), NOW)
      holder.put(replicaEntry({ signer: `part${i}`, complete: false }), NOW)
    }
    const answers = Array.from({ length: 20 }, () => holder.getReplicas(IMAGE, NOW).replicas)
    for (const replicas of answers) {
      expect(replicas).toHaveLength(REPLICAS_PER_ANSWER)
      expect(new Set(replicas.map(held => held.signer)).size).toBe(REPLICAS_PER_ANSWER)
      expect(replicas.filter(held => !held.complete)).toHaveLength(REPLICAS_PER_ANSWER / 4)
    }
    expect(new Set(answers.flat().map(held => held.signer)).size).toBeGreaterThan(150)
  })

  test('partial replicas fill an answer when there are few full ones', () => {
    const holder = newHolder()
    holder.put(replicaEntry({ signer: 'full' }), NOW)
    for (let i = 0; i < 100; i++) holder.put(replicaEntry({ signer: `part${i}`, complete: false }), NOW)
    const { replicas } = holder.getReplicas(IMAGE, NOW)
    expect(replicas).toHaveLength(REPLICAS_PER_ANSWER)
    expect(replicas.filter(held => held.complete)).toHaveLength(1)
  })
})

describe('the bounds of a holder', () => {
  test('a signer has a limited number of records over all keys', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_RECORDS_PER_SIGNER; i++) holder.put(replicaEntry({ key: imageNumber(i) }), NOW)
    expect(holder.put(replicaEntry({ key: imageNumber(99_999) }), NOW).outcome).toBe('full-signer')
    expect(holder.put(replicaEntry({ key: imageNumber(99_999), signer: 'other' }), NOW).outcome).toBe('kept')
  })

  test('a signer has a limited number of bytes over all keys', () => {
    const holder = newHolder()
    const put = (i: number, signer = 'p') =>
      holder.put(latestEntry({ key: `${signer}/a${i}`, signer, sizeBytes: 256 * 1024 }), NOW).outcome
    let kept = 0
    while (put(kept) === 'kept') kept++
    expect(kept).toBe(31)
    expect(put(99)).toBe('full-signer')
    expect(put(0, 'other')).toBe('kept')
  })

  test('the room of unverified records comes back when they go', () => {
    const holder = newHolder(50_000 / TABLE_SHARE.replicas)
    const fill = (now: number) => {
      let count = 0
      const next = () =>
        replicaEntry({ key: imageNumber(count), verified: false, sizeBytes: 1000, expiresMs: now + 10, sequence: now })
      while (holder.put(next(), now).outcome === 'kept') count++
      return count
    }
    expect(fill(NOW)).toBe(12)
    holder.expire(NOW + 10)
    expect(fill(NOW + 10)).toBe(12)
  })

  test('a flood of one table leaves the other its share', () => {
    const holder = newHolder(1_000_000)
    let i = 0
    while (holder.put(latestEntry({ key: `p${i}/grid`, signer: `p${i}`, sizeBytes: 50_000 }), NOW).outcome === 'kept')
      i++
    expect(holder.put(latestEntry({ key: 'p/grid', signer: 'p', sizeBytes: 50_000 }), NOW).outcome).toBe('full')
    expect(holder.usage('latest').bytes).toBeLessThanOrEqual(500_000)
    expect(holder.put(replicaEntry(), NOW).outcome).toBe('kept')
  })

  test('when bytes run out, records that nobody has reached go first', () => {
    const holder = newHolder(50_000 / TABLE_SHARE.replicas)
    let unverified = 0
    const put = (signer: string, verified: boolean) =>
      holder.put(replicaEntry({ key: imageNumber(unverified), signer, verified, sizeBytes: 1000 }), NOW).outcome
    while (put(`u${unverified}`, false) === 'kept') unverified++
    // A quarter of the table's share.
    expect(unverified).toBe(12)
    let verified = 0
    while (put(`v${verified}`, true) === 'kept') verified++
    expect(verified).toBe(Math.floor(50_000 / 1512))
    expect(put('late', true)).toBe('full')
  })

  test('a key is held since its first record, through renewals, until a gap', () => {
    const holder = newHolder()
    holder.put(replicaEntry({ expiresMs: NOW + 100 }), NOW)
    holder.put(replicaEntry({ sequence: 2, expiresMs: NOW + 200 }), NOW + 50)
    expect(holder.getReplicas(IMAGE, NOW + 60).heldSinceMs).toBe(NOW)
    holder.expire(NOW + 200)
    holder.put(replicaEntry({ sequence: 3, expiresMs: NOW + HOUR_MS }), NOW + 300)
    expect(holder.getReplicas(IMAGE, NOW + 300).heldSinceMs).toBe(NOW + 300)
    holder.put(latestEntry({ sequence: 1 }), NOW)
    holder.put(latestEntry({ sequence: 2 }), NOW + 9)
    expect(holder.getLatest(APPLIANCE, NOW + 10).held?.heldSinceMs).toBe(NOW)
  })
})
