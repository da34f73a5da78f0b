/** Random histories of leases at a holder, against a list of all that ever came: nobody in use is ever out of sight. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { HeldLease, ReleaseNote } from '../../src/directory/held-leases.ts'
import { Holder } from '../../src/directory/holder.ts'
import type { Change } from '../../src/directory/holder-types.ts'
import {
  CLOCK_SKEW_MS,
  MAX_KEEP_TTL_MS,
  MAX_LEASES_PER_KEY,
  MAX_RUNNING_TTL_MS,
  RECORD_OVERHEAD_BYTES,
  TABLE_SHARE
} from '../../src/directory/limits.ts'
import { DAY_MS, HOUR_MS, leaseEntry, NOW, seeded } from '../unit/directory/support.ts'

const SEED = 20261121
const RELEASES = ['p/a@v1', 'p/a@v2', 'q/b@v1']
const release = fc.constantFrom(...RELEASES)

const put = fc.record({
  kind: fc.constant('put' as const),
  release,
  signer: fc.nat(40),
  sequence: fc.oneof(fc.nat(8), fc.constant(Number.MAX_SAFE_INTEGER)),
  issuedMs: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -DAY_MS, max: DAY_MS }) }
  ),
  runningMs: fc.oneof(fc.constant(0), fc.integer({ min: -HOUR_MS, max: 2 * HOUR_MS }), fc.constant(2 * DAY_MS)),
  keepMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 3 * HOUR_MS }), fc.constant(100 * DAY_MS)),
  givenBack: fc.boolean()
})
/** Many at once, with hashes that push others out. */
const flood = fc.record({
  kind: fc.constant('flood' as const),
  release,
  count: fc.constantFrom(30, MAX_LEASES_PER_KEY),
  top: fc.constantFrom(1, 0.01, 1e-9),
  runningMs: fc.integer({ min: 1, max: HOUR_MS })
})
const time = fc.record({
  kind: fc.constant('time' as const),
  ms: fc.oneof(fc.nat(HOUR_MS), fc.constantFrom(DAY_MS, -DAY_MS, 30 * DAY_MS)),
  sweep: fc.boolean()
})
const restart = fc.record({ kind: fc.constant('restart' as const) })
const step = fc.oneof(
  { weight: 12, arbitrary: put },
  { weight: 1, arbitrary: flood },
  { weight: 4, arbitrary: time },
  { weight: 1, arbitrary: restart }
)

/** What a store has on disk. */
class Mirror {
  readonly leases = new Map<string, HeldLease>()
  readonly notes = new Map<string, ReleaseNote>()

  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'note') {
        if (change.note === undefined) this.notes.delete(change.release)
        else this.notes.set(change.release, change.note)
      } else if (change.kind === 'drop') {
        expect(this.leases.delete(`${change.key}/${change.signer}`)).toBe(true)
      } else {
        const lease = change.record as HeldLease
        this.leases.set(`${lease.key}/${lease.signer}`, lease)
      }
    }
  }

  holder(quotaBytes: number, now: number): Holder {
    const holder = new Holder({ random: seeded(1) }, { quotaBytes })
    for (const [name, note] of this.notes) expect(holder.restoreNote(name, { ...note, contactMs: now })).toBe(true)
    for (const lease of this.leases.values()) expect(holder.restore(lease)).toBe(true)
    return holder
  }
}

/** A plain list: of each sharer its newest lease, and what it gave back. */
class Model {
  readonly #newest = new Map<string, { sequence: number; untilMs: number; givenBack: boolean }>()

  put(key: string, signer: string, entry: { sequence: number; untilMs: number; givenBack: boolean }): void {
    const id = `${key} ${signer}`
    const before = this.#newest.get(id)
    if (before === undefined || entry.sequence > before.sequence) this.#newest.set(id, entry)
  }

  /** When the last sharer's newest lease ends, if it was not given back. */
  inUseUntil(key: string): number {
    let latest = 0
    for (const [id, { untilMs, givenBack }] of this.#newest) {
      if (id.startsWith(`${key} `) && !givenBack) latest = Math.max(latest, untilMs)
    }
    return latest
  }
}

test('whoever uses a release is seen until the lease ends, in every history and after every restart', () => {
  const history = fc.record({
    steps: fc.array(step, { maxLength: 120, size: 'max' }),
    quotaBytes: fc.constantFrom(20_000, 2_000_000, 64 * 1024 * 1024)
  })
  fc.assert(
    fc.property(history, ({ steps, quotaBytes }) => {
      const mirror = new Mirror()
      const model = new Model()
      let holder = new Holder({ random: seeded(1) }, { quotaBytes })
      let now = NOW
      let highest = now
      let floods = 0
      const put = (entry: ReturnType<typeof leaseEntry>) => {
        const { outcome, changes } = holder.put(entry, now)
        mirror.apply(changes)
        const untilMs = Math.max(entry.runningUntilMs, entry.keepUntilMs)
        if (!['kept', 'counted', 'full', 'withdrawn'].includes(outcome)) return
        expect(untilMs).toBeGreaterThan(now)
        expect(entry.issuedMs).toBeLessThanOrEqual(now + CLOCK_SKEW_MS)
        expect(entry.runningUntilMs).toBeLessThanOrEqual(now + MAX_RUNNING_TTL_MS + CLOCK_SKEW_MS)
        expect(entry.keepUntilMs).toBeLessThanOrEqual(now + MAX_KEEP_TTL_MS + CLOCK_SKEW_MS)
        model.put(entry.key, entry.signer, { sequence: entry.sequence, untilMs, givenBack: entry.givenBack })
      }
      for (const s of steps) {
        if (s.kind === 'put') {
          const { release: key, sequence, givenBack } = s
          const times = {
            issuedMs: now + s.issuedMs,
            runningUntilMs: s.runningMs === 0 ? 0 : now + s.runningMs,
            keepUntilMs: s.keepMs === 0 ? 0 : now + s.keepMs
          }
          put(leaseEntry({ key, signer: `s${s.signer}`, hash: (s.signer + 0.5) / 41, sequence, givenBack, ...times }))
        } else if (s.kind === 'flood') {
          floods++
          for (let i = 0; i < s.count; i++) {
            const hash = ((i + 0.5) / s.count) * s.top
            const times = { issuedMs: now, runningUntilMs: now + s.runningMs }
            put(leaseEntry({ key: s.release, signer: `f${floods}-${i}`, hash, ...times }))
          }
        } else if (s.kind === 'time') {
          now += s.ms
          highest = Math.max(highest, now)
          if (s.sweep) mirror.apply(holder.expire(now))
        } else {
          holder = mirror.holder(quotaBytes, now)
        }
        const usage = holder.usage('sharers')
        expect(usage.records).toBe(mirror.leases.size)
        expect(usage.records * RECORD_OVERHEAD_BYTES).toBeLessThanOrEqual(quotaBytes * TABLE_SHARE.sharers)
        for (const key of RELEASES) {
          const { found, changes } = holder.getSharers(key, now)
          mirror.apply(changes)
          expect(found.hashes.length).toBeLessThanOrEqual(MAX_LEASES_PER_KEY)
          expect(found.hashes).toEqual(found.hashes.toSorted((a, b) => a - b))
          expect(found.tenureMs).toBeGreaterThanOrEqual(0)
          const inUseUntil = model.inUseUntil(key)
          // What ended by a clock that was set forward does not come back when it is set back.
          if (inUseUntil > highest) expect(found.inUseUntilMs).toBeGreaterThanOrEqual(inUseUntil)
        }
      }
      mirror.apply(holder.expire(highest + 200 * DAY_MS))
      expect(mirror.leases.size + mirror.notes.size).toBe(0)
      expect(holder.usage('sharers')).toEqual({ records: 0, bytes: 0, keys: 0 })
    }),
    { seed: SEED, numRuns: 60 }
  )
})
