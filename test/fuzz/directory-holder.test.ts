/** Random histories of a holder: whatever comes, its bounds hold and its answers keep the rules. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { HeldLatest } from '../../src/directory/held-latest.ts'
import type { HeldReplica } from '../../src/directory/held-replicas.ts'
import { Holder } from '../../src/directory/holder.ts'
import type { Change } from '../../src/directory/holder-types.ts'
import {
  CLOCK_SKEW_MS,
  MAX_REPLICAS_PER_KEY,
  MAX_UNVERIFIED_PER_KEY,
  RECORD_OVERHEAD_BYTES,
  REPLICAS_PER_ANSWER,
  TABLE_SHARE
} from '../../src/directory/limits.ts'
import { compareRecords } from '../../src/image/release-order.ts'
import { imageNumber, latestEntry, NOW, replicaEntry, seeded } from '../unit/directory/support.ts'

type HeldRecord = HeldLatest | HeldReplica

const SEED = 20261121
const KEYS = 3
const SIGNERS = 400

const latestPut = fc.record({
  kind: fc.constant('latest' as const),
  key: fc.nat(KEYS - 1),
  sequence: fc.nat(6),
  variant: fc.nat(2),
  delegation: fc.nat(2),
  lifeMs: fc.integer({ min: -100, max: 2000 }),
  sizeBytes: fc.nat(4000)
})
const replicaPut = fc.record({
  kind: fc.constant('replica' as const),
  key: fc.nat(KEYS - 1),
  signer: fc.nat(SIGNERS - 1),
  sequence: fc.nat(6),
  complete: fc.boolean(),
  verified: fc.boolean(),
  lifeMs: fc.integer({ min: -100, max: 2000 }),
  sizeBytes: fc.nat(2000)
})
const passing = fc.record({ kind: fc.constant('time' as const), ms: fc.nat(500), sweep: fc.boolean() })
const reached = fc.record({ kind: fc.constant('reached' as const), key: fc.nat(KEYS - 1), signer: fc.nat(SIGNERS - 1) })
const step = fc.oneof(
  { weight: 2, arbitrary: latestPut },
  { weight: 8, arbitrary: replicaPut },
  { weight: 1, arbitrary: passing },
  { weight: 1, arbitrary: reached }
)
const history = fc.record({
  steps: fc.array(step, { maxLength: 800, size: 'max' }),
  quotaBytes: fc.constantFrom(20_000, 200_000, 2_000_000)
})

const image = (key: number) => imageNumber(key + 1)
const idOf = (r: { table: string; key: string; signer: string }) => `${r.table}/${r.key}/${r.signer}`

/** What a store would have on disk. */
class Mirror {
  readonly records = new Map<string, HeldRecord>()

  apply(changes: Change[]): void {
    for (const change of changes) {
      if (change.kind === 'note') throw new Error('nobody shares in these histories')
      if (change.kind === 'keep') this.records.set(idOf(change.record), change.record as HeldRecord)
      else expect(this.records.delete(idOf(change))).toBe(true)
    }
  }

  bytes(table: 'latest' | 'replicas'): number {
    let sum = 0
    for (const record of this.records.values()) {
      if (record.table !== table) continue
      const second = record.table === 'latest' ? (record.conflicting?.byteLength ?? 0) : 0
      sum += record.bytes.byteLength + second + RECORD_OVERHEAD_BYTES
    }
    return sum
  }
}

test('in every history the bounds hold, the store agrees, and nothing goes back', () => {
  fc.assert(
    fc.property(history, ({ steps, quotaBytes }) => {
      const holder = new Holder({ random: seeded(1) }, { quotaBytes })
      const mirror = new Mirror()
      const highest = new Map<string, number>()
      let now = NOW
      for (const s of steps) {
        if (s.kind === 'time') {
          now += s.ms
          if (s.sweep) mirror.apply(holder.expire(now))
          if (s.sweep) for (const record of mirror.records.values()) expect(record.expiresMs).toBeGreaterThan(now)
        } else if (s.kind === 'reached') {
          const digest = mirror.records.get(
            idOf({ table: 'replicas', key: image(s.key), signer: `p${s.signer}` })
          )?.digest
          mirror.apply(holder.markVerified(image(s.key), `p${s.signer}`, digest ?? ''))
        } else if (s.kind === 'latest') {
          const key = `publisher-${s.key}/grid`
          const before = holder.getLatest(key, now).held
          const { outcome, changes } = holder.put(
            latestEntry({
              key,
              signer: `publisher-${s.key}`,
              sequence: s.sequence,
              digest: `${s.sequence}/${s.variant}`,
              delegationSequence: s.delegation,
              issuedMs: now,
              expiresMs: now + s.lifeMs,
              sizeBytes: s.sizeBytes,
              images: [image(s.key)]
            }),
            now
          )
          mirror.apply(changes)
          const after = holder.getLatest(key, now).held
          if (before !== undefined) expect(compareRecords(after!, before)).toBeGreaterThanOrEqual(0)
          if (outcome === 'kept') expect(after).toMatchObject({ sequence: s.sequence })
          if (outcome !== 'kept' && outcome !== 'conflict') expect(after).toEqual(before)
        } else {
          const id = `${s.key}/${s.signer}`
          const entry = replicaEntry({
            key: image(s.key),
            signer: `p${s.signer}`,
            sequence: s.sequence,
            complete: s.complete,
            verified: s.verified,
            expiresMs: now + s.lifeMs,
            sizeBytes: s.sizeBytes
          })
          const { outcome, changes } = holder.put(entry, now)
          mirror.apply(changes)
          if (outcome === 'kept') {
            const kept = mirror.records.get(idOf(entry))
            expect(kept).toMatchObject({ sequence: s.sequence, digest: entry.digest })
            expect(kept!.expiresMs).toBeLessThanOrEqual(now + 86_400_000 + CLOCK_SKEW_MS)
            highest.set(id, s.sequence)
          }
        }
        check(holder, mirror, quotaBytes)
      }
      checkAnswers(holder, now)
      mirror.apply(holder.expire(now + 10_000))
      expect(mirror.records.size).toBe(0)
      for (const table of ['latest', 'replicas'] as const) {
        expect(holder.usage(table)).toEqual({ records: 0, bytes: 0, keys: 0 })
      }
    }),
    { seed: SEED, numRuns: 60 }
  )
})

function check(holder: Holder, mirror: Mirror, quotaBytes: number): void {
  for (const table of ['latest', 'replicas'] as const) {
    const usage = holder.usage(table)
    expect(usage.bytes).toBe(mirror.bytes(table))
    expect(usage.bytes).toBeLessThanOrEqual(quotaBytes * TABLE_SHARE[table])
  }
  for (let key = 0; key < KEYS; key++) {
    const held = [...mirror.records.values()].filter(record => record.key === image(key))
    expect(held.length).toBeLessThanOrEqual(MAX_REPLICAS_PER_KEY)
    const unverified = held.filter(record => record.table === 'replicas' && !record.verified)
    expect(unverified.length).toBeLessThanOrEqual(MAX_UNVERIFIED_PER_KEY)
  }
}

function checkAnswers(holder: Holder, now: number): void {
  for (let key = 0; key < KEYS; key++) {
    const { replicas } = holder.getReplicas(image(key), now)
    expect(replicas.length).toBeLessThanOrEqual(REPLICAS_PER_ANSWER)
    expect(new Set(replicas.map(held => held.signer)).size).toBe(replicas.length)
    const firstUnverified = replicas.findIndex(held => !held.verified)
    if (firstUnverified >= 0) expect(replicas.slice(firstUnverified).some(held => held.verified)).toBe(false)
    for (const held of replicas) expect(held.expiresMs).toBeGreaterThan(now)
  }
}

test('a holder restored from what it said to write gives the same answers', () => {
  fc.assert(
    fc.property(history, ({ steps, quotaBytes }) => {
      const holder = new Holder({ random: seeded(1) }, { quotaBytes })
      const mirror = new Mirror()
      for (const s of steps) {
        if (s.kind !== 'replica') continue
        const { key, signer, sequence, complete, verified, sizeBytes } = s
        const entry = replicaEntry({ key: image(key), signer: `p${signer}`, sequence, complete, verified, sizeBytes })
        mirror.apply(holder.put(entry, NOW).changes)
      }
      const restored = new Holder({ random: seeded(1) }, { quotaBytes })
      for (const record of mirror.records.values()) expect(restored.restore(record)).toBe(true)
      for (const table of ['latest', 'replicas'] as const) expect(restored.usage(table)).toEqual(holder.usage(table))
    }),
    { seed: SEED, numRuns: 30 }
  )
})
