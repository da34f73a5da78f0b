import { describe, expect, test } from 'vitest'
import { Holder } from '../../../src/directory/holder.ts'
import {
  CLOCK_SKEW_MS,
  MAX_GIVEN_BACK_PER_KEY,
  MAX_KEEP_TTL_MS,
  MAX_LEASES_PER_KEY,
  MAX_LEASES_PER_SIGNER,
  MAX_RELEASES_HELD,
  MAX_RUNNING_TTL_MS,
  RECORD_OVERHEAD_BYTES,
  TABLE_SHARE,
  TENURE_CONTACT_GAP_MS
} from '../../../src/directory/limits.ts'
import { estimateSharers } from '../../../src/directory/sharer-sketch.ts'
import { DAY_MS, HOUR_MS, leaseEntry, NOW, RELEASE, seeded } from './support.ts'

const TTL_MS = HOUR_MS / 2
const newHolder = (quotaBytes = 64 * 1024 * 1024) => new Holder({ random: seeded(1) }, { quotaBytes })
const find = (holder: Holder, now = NOW, release = RELEASE) => holder.getSharers(release, now).found

/** `count` sharers with hashes spread evenly over [from, to). */
function fill(
  holder: Holder,
  count: number,
  options: { from?: number; to?: number; now?: number; name?: string } = {}
) {
  const { from = 0, to = 1, now = NOW, name = 's' } = options
  for (let i = 0; i < count; i++) {
    const hash = from + ((i + 0.5) / count) * (to - from)
    holder.put(
      leaseEntry({ signer: `${name}${i}`, hash, sequence: now, issuedMs: now, runningUntilMs: now + TTL_MS }),
      now
    )
  }
}

describe('what a holder says of a release', () => {
  test('every lease counts, as long as it holds', () => {
    const holder = newHolder()
    fill(holder, 3)
    expect(find(holder)).toMatchObject({ hashes: [1 / 6, 0.5, 5 / 6], all: true, threshold: 1 })
    expect(find(holder).inUseUntilMs).toBe(NOW + TTL_MS)
    expect(find(holder, NOW + TTL_MS - 1).hashes).toHaveLength(3)
    expect(find(holder, NOW + TTL_MS)).toMatchObject({ hashes: [], all: true, inUseUntilMs: 0 })
  })

  test('a lease that is renewed counts once, until its last end', () => {
    const holder = newHolder()
    holder.put(leaseEntry({ runningUntilMs: NOW + TTL_MS }), NOW)
    holder.put(leaseEntry({ sequence: 2, runningUntilMs: NOW + 2 * TTL_MS }), NOW)
    expect(find(holder, NOW + TTL_MS).hashes).toHaveLength(1)
    expect(find(holder, NOW + 2 * TTL_MS).hashes).toHaveLength(0)
  })

  test('a lease holds until the later of its two ends', () => {
    const holder = newHolder()
    holder.put(leaseEntry({ runningUntilMs: NOW + TTL_MS, keepUntilMs: NOW + 60 * DAY_MS }), NOW)
    expect(find(holder, NOW + 59 * DAY_MS)).toMatchObject({ hashes: [0.5], inUseUntilMs: NOW + 60 * DAY_MS })
  })

  test('above its room it keeps the smallest hashes, and the number covers all others', () => {
    const holder = newHolder()
    fill(holder, MAX_LEASES_PER_KEY, { from: 0.5 })
    expect(find(holder).all).toBe(true)
    const late = { runningUntilMs: NOW + 3 * TTL_MS, hash: 0.99999, signer: 'late' }
    expect(holder.put(leaseEntry(late), NOW).outcome).toBe('counted')
    expect(find(holder)).toMatchObject({ all: false, inUseUntilMs: NOW + 3 * TTL_MS })
    expect(holder.put(leaseEntry({ signer: 'small', hash: 0.1 }), NOW).outcome).toBe('kept')
    expect(find(holder).hashes).toHaveLength(MAX_LEASES_PER_KEY)
    expect(find(holder).hashes[0]).toBe(0.1)
  })

  test('one that is pushed out by a smaller hash is covered by the number too', () => {
    const holder = newHolder()
    fill(holder, MAX_LEASES_PER_KEY - 1, { from: 0, to: 0.5 })
    holder.put(leaseEntry({ signer: 'real', hash: 0.9, runningUntilMs: NOW + 5 * TTL_MS }), NOW)
    fill(holder, 10, { from: 0.1, to: 0.2, name: 'flood' })
    expect(find(holder).hashes.at(-1)).toBeLessThan(0.5)
    expect(find(holder, NOW + 4 * TTL_MS)).toMatchObject({ hashes: [], inUseUntilMs: NOW + 5 * TTL_MS })
  })

  test('who is crowded out by invented sharers is not made invisible when these lapse together', () => {
    const holder = newHolder()
    fill(holder, MAX_LEASES_PER_KEY, { to: 1e-9, name: 'ground' })
    holder.put(leaseEntry({ signer: 'real', keepUntilMs: NOW + 30 * DAY_MS }), NOW)
    const after = find(holder, NOW + DAY_MS)
    expect(after.hashes).toEqual([])
    expect(after.inUseUntilMs).toBe(NOW + 30 * DAY_MS)
  })

  test('it says where it stops keeping leases, and wants all again when many are gone', () => {
    const holder = newHolder()
    fill(holder, MAX_LEASES_PER_KEY * 2)
    const full = find(holder)
    expect(full.threshold).toBe(full.hashes.at(-1))
    expect(full.threshold).toBeCloseTo(0.5, 2)
    expect(estimateSharers(full.hashes, full.all).count).toBeCloseTo(2048, -2)
    const back = (n: number, now: number) => {
      for (let i = 0; i < n; i++) {
        const hash = ((i + 0.5) / (MAX_LEASES_PER_KEY * 2)) * 1
        holder.put(leaseEntry({ signer: `s${i}`, hash, sequence: now, givenBack: true }), now)
      }
    }
    back(100, NOW + 1)
    expect(find(holder).threshold).toBeLessThan(1)
    back(400, NOW + 2)
    expect(find(holder).threshold).toBe(1)
  })

  test('a lease that is given back no longer counts, and an older one that is replayed does not either', () => {
    const holder = newHolder()
    const first = leaseEntry({ sequence: 1, keepUntilMs: NOW + DAY_MS })
    holder.put(first, NOW)
    const back = leaseEntry({ sequence: 2, runningUntilMs: 0, keepUntilMs: NOW + DAY_MS, givenBack: true })
    expect(holder.put(back, NOW).outcome).toBe('withdrawn')
    expect(find(holder)).toMatchObject({ hashes: [], inUseUntilMs: 0 })
    expect(holder.put(first, NOW + 1).outcome).toBe('older')
    expect(find(holder).hashes).toEqual([])
    expect(holder.put(leaseEntry({ sequence: 3 }), NOW + 2).outcome).toBe('kept')
    expect(find(holder).hashes).toHaveLength(1)
  })

  test('only who signed a lease takes it back, and no older tombstone of theirs does', () => {
    // Lines: `key.held.get(entry.signer)` and `if (known !== undefined) return …` in put.
    const holder = newHolder()
    const back = { runningUntilMs: 0, keepUntilMs: NOW + DAY_MS, givenBack: true }
    holder.put(leaseEntry({ sequence: 1 }), NOW)
    expect(holder.put(leaseEntry({ sequence: 2, ...back }), NOW).outcome).toBe('withdrawn')
    holder.put(leaseEntry({ sequence: 3 }), NOW)
    expect(holder.put(leaseEntry({ signer: 'forger', sequence: 9, ...back }), NOW).outcome).toBe('withdrawn')
    expect(holder.put(leaseEntry({ sequence: 2, ...back }), NOW).outcome).toBe('older')
    expect(find(holder).hashes).toHaveLength(1)
  })

  test('the record of what was given back is bounded', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_GIVEN_BACK_PER_KEY + 50; i++) {
      holder.put(leaseEntry({ signer: `s${i}` }), NOW)
      holder.put(leaseEntry({ signer: `s${i}`, sequence: 2, givenBack: true }), NOW)
    }
    expect(holder.usage('sharers').records).toBe(MAX_GIVEN_BACK_PER_KEY)
  })
})

describe('leases that are refused', () => {
  test.each([
    ['expired', leaseEntry({ runningUntilMs: NOW, issuedMs: NOW - 1 }), 'expired'],
    [
      'issued in the future',
      leaseEntry({ issuedMs: NOW + CLOCK_SKEW_MS + 1, runningUntilMs: NOW + HOUR_MS }),
      'future'
    ],
    ['running for too long', leaseEntry({ runningUntilMs: NOW + MAX_RUNNING_TTL_MS + CLOCK_SKEW_MS + 1 }), 'future'],
    ['kept for too long', leaseEntry({ keepUntilMs: NOW + MAX_KEEP_TTL_MS + CLOCK_SKEW_MS + 1 }), 'future'],
    ['kept for ever', leaseEntry({ keepUntilMs: Number.MAX_SAFE_INTEGER }), 'future']
  ])('%s', (_, entry, outcome) => {
    const holder = newHolder()
    expect(holder.put(entry, NOW)).toEqual({ outcome, changes: [] })
    expect(find(holder)).toMatchObject({ hashes: [], inUseUntilMs: 0 })
  })

  test('older ones, and another one with the same sequence number', () => {
    const holder = newHolder()
    const lease = leaseEntry({ sequence: 5 })
    holder.put(lease, NOW)
    expect(holder.put(leaseEntry({ sequence: 4, keepUntilMs: NOW + DAY_MS }), NOW).outcome).toBe('older')
    expect(holder.put(lease, NOW).outcome).toBe('known')
    expect(holder.put(leaseEntry({ sequence: 5, keepUntilMs: NOW + DAY_MS }), NOW).outcome).toBe('conflict')
    expect(find(holder).inUseUntilMs).toBe(NOW + TTL_MS)
  })

  test('at the highest sequence number a lease can be neither renewed nor given back, and lapses all the same', () => {
    const holder = newHolder()
    const sequence = Number.MAX_SAFE_INTEGER
    expect(holder.put(leaseEntry({ sequence }), NOW).outcome).toBe('kept')
    expect(holder.put(leaseEntry({ sequence, givenBack: true }), NOW).outcome).toBe('conflict')
    expect(holder.put(leaseEntry({ signer: 'zero', sequence: 0 }), NOW).outcome).toBe('kept')
    expect(find(holder, NOW + TTL_MS).inUseUntilMs).toBe(0)
  })

  test('more of one signer than it can have versions of an appliance', () => {
    const holder = newHolder()
    const put = (i: number, signer = 'flood') => holder.put(leaseEntry({ key: `${RELEASE}${i}`, signer }), NOW).outcome
    for (let i = 0; i < MAX_LEASES_PER_SIGNER; i++) expect(put(i)).toBe('kept')
    expect(put(9999)).toBe('full-signer')
    expect(holder.usage('sharers').keys).toBe(MAX_LEASES_PER_SIGNER)
    expect(put(0)).toBe('known')
    expect(put(9999, 'other')).toBe('kept')
  })
})

describe('a flood of leases', () => {
  test('of invented sharers fills no more than its share, and each release in it stays in use', () => {
    const quotaBytes = 400_000
    const holder = newHolder(quotaBytes)
    const most = Math.floor((quotaBytes * TABLE_SHARE.sharers) / RECORD_OVERHEAD_BYTES)
    fill(holder, most + 100)
    expect(holder.usage('sharers').records).toBe(most)
    // A release that comes when all is full: its lease is not kept, and not forgotten.
    const other = leaseEntry({ key: 'pub/other@v1', signer: 'real' })
    expect(holder.put(other, NOW).outcome).toBe('counted')
    expect(find(holder, NOW, other.key)).toMatchObject({ hashes: [], all: false, inUseUntilMs: NOW + TTL_MS })
  })

  test('on invented releases: one more number covers what there is no room for', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_RELEASES_HELD; i++) holder.put(leaseEntry({ key: `p/x@v${i}`, signer: `s${i}` }), NOW)
    const real = leaseEntry({ keepUntilMs: NOW + 20 * DAY_MS, signer: 'real' })
    expect(holder.put(real, NOW).outcome).toBe('full')
    expect(holder.usage('sharers').keys).toBe(MAX_RELEASES_HELD)
    expect(find(holder).inUseUntilMs).toBe(NOW + 20 * DAY_MS)
    expect(find(holder, NOW + DAY_MS).inUseUntilMs).toBe(NOW + 20 * DAY_MS)
    expect(find(holder, NOW + 21 * DAY_MS).inUseUntilMs).toBe(0)
  })

  test('of questions takes nobody else’s place', () => {
    const holder = newHolder()
    for (let i = 0; i < MAX_RELEASES_HELD + 10; i++) holder.getSharers(`p/x@v${i}`, NOW)
    expect(holder.usage('sharers').keys).toBe(MAX_RELEASES_HELD)
    expect(holder.put(leaseEntry(), NOW).outcome).toBe('kept')
  })
})

describe('tenure', () => {
  test('begins with the first contact, and lasts while there is any', () => {
    const holder = newHolder()
    expect(find(holder).tenureMs).toBe(0)
    for (let at = 0; at <= 10 * DAY_MS; at += TENURE_CONTACT_GAP_MS) {
      holder.expire(NOW + at)
      expect(find(holder, NOW + at).tenureMs).toBe(at)
    }
  })

  test('begins anew after a gap in which leases may have gone elsewhere', () => {
    const holder = newHolder()
    holder.put(leaseEntry({ keepUntilMs: NOW + DAY_MS }), NOW)
    expect(find(holder, NOW + TENURE_CONTACT_GAP_MS + 1).tenureMs).toBe(0)
    expect(find(holder, NOW + TENURE_CONTACT_GAP_MS + 5).tenureMs).toBe(4)
  })

  test.each([DAY_MS, -DAY_MS])('begins anew when the clock is set by %i ms while leases are out', jump => {
    const holder = newHolder()
    fill(holder, 5)
    find(holder, NOW + 60_000)
    const after = find(holder, NOW + 60_000 + jump)
    expect(after.tenureMs).toBe(0)
    // Set forward, leases lapse before their time and come back with the next renewal; set back, they hold for longer.
    if (jump > 0) {
      fill(holder, 5, { now: NOW + 60_001 + jump })
      expect(find(holder, NOW + 60_001 + jump).hashes).toHaveLength(5)
    } else {
      expect(after.hashes).toHaveLength(5)
    }
  })

  test('is never less than nothing, when the clock is set back by a little', () => {
    const holder = newHolder()
    find(holder)
    expect(find(holder, NOW - 1000).tenureMs).toBe(0)
    expect(find(holder, NOW + 500).tenureMs).toBe(1500)
  })

  test('what is only asked for is forgotten in the end', () => {
    const holder = newHolder()
    find(holder)
    expect(holder.expire(NOW + TENURE_CONTACT_GAP_MS)).toEqual([])
    expect(holder.expire(NOW + TENURE_CONTACT_GAP_MS + 1)).toEqual([
      { kind: 'note', release: RELEASE, note: undefined }
    ])
    expect(holder.usage('sharers').keys).toBe(0)
  })
})
