import { describe, expect, test } from 'vitest'
import { type LeaseOutcome, LeasePlan, type LeaseTask, type Share } from '../../../src/directory/lease-plan.ts'
import { MAX_LEASE_RENEWAL_MS, MAX_SHARED_RELEASES } from '../../../src/directory/limits.ts'
import { DAY_MS, HOUR_MS, imageNumber, RELEASE, seeded } from './support.ts'

const TTL_MS = HOUR_MS / 2
const FULL = { asked: 20, kept: 20 }
const share = (values: Partial<Share> = {}): Share => ({
  release: RELEASE,
  image: imageNumber(1),
  running: true,
  keep: false,
  ...values
})
const newPlan = () => new LeasePlan({ random: seeded(7) }, { runningTtlMs: TTL_MS, keepTtlMs: 60 * DAY_MS })

/** Carries out what is due until `endMs`; returns what was done when. */
function run(plan: LeasePlan, endMs: number, carryOut: (task: LeaseTask, now: number) => LeaseOutcome) {
  const done: { kind: LeaseTask['kind']; atMs: number }[] = []
  for (let next = plan.nextMs(); next !== undefined && next <= endMs; next = plan.nextMs()) {
    for (const task of plan.due(next, 5)) {
      done.push({ kind: task.kind, atMs: next })
      plan.done(task, carryOut(task, next), next)
    }
  }
  return done
}

describe('the plan of leases', () => {
  test('renews a running lease three times within every TTL', () => {
    const plan = newPlan()
    plan.share([share()], 0)
    const times = run(plan, 20 * TTL_MS, () => FULL).map(({ atMs }) => atMs)
    expect(times[0]).toBe(0)
    for (let i = 3; i < times.length; i++) expect(times[i]! - times[i - 3]!).toBeLessThan(TTL_MS * 1.1)
    expect(times.length).toBeLessThanOrEqual(68)
    expect(new Set(times.slice(1).map((at, i) => Math.round(at - times[i]!))).size).toBeGreaterThan(10)
  })

  test('renews one that holds for long every few hours, so that it follows when holders change', () => {
    const plan = newPlan()
    plan.share([share({ running: false, keep: true })], 0)
    const { length } = run(plan, 10 * MAX_LEASE_RENEWAL_MS, () => FULL)
    expect(length).toBeGreaterThanOrEqual(9)
    expect(length).toBeLessThanOrEqual(13)
  })

  test('tries again soon what nobody took, and what found few holders', () => {
    for (const outcome of [
      { asked: 3, kept: 0 },
      { asked: 3, kept: 3 }
    ]) {
      const plan = newPlan()
      plan.share([share()], 0)
      expect(run(plan, TTL_MS / 3, () => outcome).length).toBeGreaterThanOrEqual(4)
    }
  })

  test('says at once what has changed, and not again what has not', () => {
    const plan = newPlan()
    plan.share([share()], 0)
    run(plan, 0, () => FULL)
    plan.share([share()], 1)
    expect(plan.due(1, 5)).toEqual([])
    plan.share([share({ keep: true })], 2)
    expect(plan.due(2, 5)).toMatchObject([{ kind: 'renew', share: { keep: true } }])
  })

  test('gives back once what is no longer shared', () => {
    const plan = newPlan()
    plan.share([share()], 0)
    run(plan, 0, () => FULL)
    plan.share([], 5)
    expect(run(plan, 100 * TTL_MS, () => FULL)).toEqual([{ kind: 'give-back', atMs: 5 }])
    expect(plan.size).toBe(0)
  })

  test('tries to give back until somebody takes it, or it has expired', () => {
    const plan = newPlan()
    plan.share([share()], 0)
    run(plan, 0, () => FULL)
    plan.share([], 5)
    let tries = 0
    run(plan, 10_000, () => (++tries < 3 ? { asked: 20, kept: 0 } : FULL))
    expect([tries, plan.size]).toEqual([3, 0])
    plan.remember(RELEASE, imageNumber(1), 20_000)
    run(plan, 20_000, () => ({ asked: 0, kept: 0, over: true }))
    expect(plan.size).toBe(0)
  })

  test('gives back again, with growing patience, while somebody misses it, and not for ever', () => {
    const plan = newPlan()
    plan.share([share({ running: false, keep: true })], 0)
    run(plan, 0, () => FULL)
    plan.share([], 5)
    let tries = 0
    run(plan, HOUR_MS, () => ({ ...FULL, missed: ++tries < 4 ? 1 : 0 }))
    expect([tries, plan.size]).toEqual([4, 0])
    plan.remember(RELEASE, imageNumber(1), 0)
    const done = run(plan, 60 * DAY_MS, () => ({ ...FULL, missed: 1 }))
    expect(plan.size).toBe(0)
    expect(done.length).toBeLessThanOrEqual(14)
    expect(done.at(-1)!.atMs).toBeGreaterThan(20 * HOUR_MS)
    expect(done.at(-1)!.atMs).toBeLessThan(3 * DAY_MS)
  })

  test('shares again what was being given back', () => {
    const plan = newPlan()
    plan.share([share()], 0)
    run(plan, 0, () => FULL)
    plan.share([], 1)
    const [task] = plan.due(1, 1)
    plan.share([share()], 2)
    plan.done(task!, FULL, 3)
    expect(plan.due(3, 1)).toMatchObject([{ kind: 'renew', share: { running: true } }])
  })

  test('what was out before a restart is given back, unless it is in use', () => {
    const plan = newPlan()
    plan.remember(RELEASE, imageNumber(1), 0)
    plan.remember(`${RELEASE}.old`, imageNumber(2), 0)
    plan.share([share()], 0)
    expect(plan.due(0, 5).map(({ kind, share }) => [kind, share.release])).toEqual([
      ['renew', RELEASE],
      ['give-back', `${RELEASE}.old`]
    ])
  })

  test('asks about a lease that rests once in a TTL, and renews it when it may not any more', () => {
    const plan = newPlan()
    plan.share([share()], 0)
    let mayRest = true
    const holders = [{ peer: 'a', addresses: [] }]
    const done = run(plan, 10 * TTL_MS, ({ kind, lease, restMs }, now) => {
      if (now > 5 * TTL_MS) mayRest = false
      if (kind === 'probe') lease.probed(mayRest, now + restMs)
      else {
        lease.targets(holders, now)
        lease.heard('a', mayRest, now + restMs)
        lease.settle(now)
      }
      return FULL
    })
    const probes = done.filter(({ kind }) => kind === 'probe')
    expect(probes.length).toBeGreaterThanOrEqual(5)
    expect(probes.length).toBeLessThanOrEqual(8)
    const last = probes.at(-1)!
    expect(done.filter(({ kind, atMs }) => kind === 'renew' && atMs === last.atMs)).toHaveLength(1)
  })

  test('takes no more than it can keep up, and changes nothing then', () => {
    const plan = newPlan()
    const many = Array.from({ length: MAX_SHARED_RELEASES + 1 }, (_, i) => share({ release: `${RELEASE}.${i}` }))
    expect(() => plan.share(many, 0)).toThrow(/LIMIT|leases/)
    expect(plan.size).toBe(0)
  })
})
