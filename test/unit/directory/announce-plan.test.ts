import { describe, expect, test } from 'vitest'
import { AnnouncePlan } from '../../../src/directory/announce-plan.ts'
import { ANNOUNCE_RETRY_MS, MAX_ANNOUNCEMENTS, THIN_RETRY_MS } from '../../../src/directory/limits.ts'
import { HOUR_MS, imageNumber, seeded } from './support.ts'

const newPlan = (ttlMs = HOUR_MS) => new AnnouncePlan({ random: seeded(7) }, { ttlMs })
const IMAGE = imageNumber(1)
const APPLIANCE = 'publisher/grid'
const FULL = { asked: 20, kept: 20 }

describe('the plan of announcements', () => {
  test('what is new is due at once, under the image and under the appliance', () => {
    const plan = newPlan()
    plan.add(IMAGE, APPLIANCE, false, 100)
    expect(plan.nextMs()).toBe(100)
    expect(plan.due(99, 10)).toEqual([])
    expect(plan.due(100, 10)).toEqual([
      { image: IMAGE, complete: false },
      { image: IMAGE, appliance: APPLIANCE, complete: false }
    ])
    expect(plan.due(100, 10)).toEqual([])
  })

  test('is renewed at a third of the time to live, give or take a tenth, never all at one moment', () => {
    const plan = newPlan()
    const delays = new Set<number>()
    for (let i = 0; i < 200; i++) plan.add(imageNumber(i), undefined, true, 0)
    for (const what of plan.due(0, 1000)) {
      plan.done(what, FULL, 0)
      delays.add(plan.nextMs()!)
    }
    expect(plan.due(HOUR_MS * 0.29, 1000)).toEqual([])
    const early = plan.due(HOUR_MS / 3, 1000).length
    expect(early).toBeGreaterThan(50)
    expect(early).toBeLessThan(150)
    expect(plan.due(HOUR_MS * 0.37, 1000).length + early).toBe(200)
  })

  test('when nobody took it, it is tried again, ever later, but never later than a renewal', () => {
    const plan = newPlan()
    plan.add(IMAGE, undefined, true, 0)
    let now = 0
    const delays: number[] = []
    for (let i = 0; i < 12; i++) {
      const [what] = plan.due(now, 1)
      plan.done(what!, { asked: 3, kept: 0 }, now)
      delays.push(plan.nextMs()! - now)
      now = plan.nextMs()!
    }
    expect(delays[0]).toBeGreaterThan(ANNOUNCE_RETRY_MS * 0.8)
    expect(delays[0]).toBeLessThan(ANNOUNCE_RETRY_MS * 1.2)
    expect(delays[4]! / delays[0]!).toBeGreaterThan(10)
    expect(delays.at(-1)).toBeLessThan((HOUR_MS / 3) * 1.11)
    plan.due(now, 1)
    plan.done({ image: IMAGE, complete: true }, FULL, now)
    expect(plan.nextMs()! - now).toBeGreaterThan((HOUR_MS / 3) * 0.89)
  })

  test('with fewer holders than a full set more are looked for soon', () => {
    const plan = newPlan()
    plan.add(IMAGE, undefined, true, 0)
    const [what] = plan.due(0, 1)
    plan.done(what!, { asked: 1, kept: 1 }, 0)
    expect(plan.nextMs()).toBeLessThan(THIN_RETRY_MS * 1.11)
    expect(plan.nextMs()).toBeGreaterThan(THIN_RETRY_MS * 0.89)
  })

  test('becoming complete is told at once, under every name, also while an announcement is under way', () => {
    const plan = newPlan()
    plan.add(IMAGE, APPLIANCE, false, 0)
    const [first, second] = plan.due(0, 2)
    plan.done(first!, FULL, 0)
    plan.add(IMAGE, undefined, true, 5)
    expect(plan.due(5, 9)).toEqual([{ image: IMAGE, complete: true }])
    plan.done(second!, FULL, 6)
    expect(plan.due(6, 9)).toEqual([{ image: IMAGE, appliance: APPLIANCE, complete: true }])
  })

  test('the same again changes nothing', () => {
    const plan = newPlan()
    plan.add(IMAGE, APPLIANCE, true, 0)
    for (const what of plan.due(0, 9)) plan.done(what, FULL, 0)
    plan.add(IMAGE, APPLIANCE, true, 10)
    plan.add(IMAGE, undefined, true, 10)
    expect(plan.due(10, 9)).toEqual([])
    expect(plan.size).toBe(2)
  })

  test('after new addresses everything is due, also what is under way', () => {
    const plan = newPlan()
    plan.add(imageNumber(1), undefined, true, 0)
    plan.add(imageNumber(2), undefined, true, 0)
    const [first, second] = plan.due(0, 2)
    plan.done(first!, FULL, 0)
    plan.renewAll(50)
    expect(plan.due(50, 9)).toEqual([first])
    plan.done(second!, FULL, 60)
    expect(plan.due(60, 9)).toEqual([second])
  })

  test('what was removed is not announced any more, also when it was under way', () => {
    const plan = newPlan()
    plan.add(IMAGE, APPLIANCE, true, 0)
    const due = plan.due(0, 1)
    expect(plan.remove(IMAGE)).toHaveLength(2)
    plan.done(due[0]!, FULL, 1)
    expect(plan.nextMs()).toBeUndefined()
    expect(plan.size).toBe(0)
  })

  test('an image that lost some of its blocks is due at once, as partial, under all that it was announced under', () => {
    const plan = newPlan()
    plan.add(IMAGE, APPLIANCE, true, 0)
    for (const what of plan.due(0, 9)) plan.done(what, FULL, 0)
    expect([plan.has(IMAGE), plan.has(imageNumber(2))]).toEqual([true, false])
    plan.add(IMAGE, undefined, false, 500)
    expect(plan.due(500, 9)).toEqual([
      { image: IMAGE, complete: false },
      { image: IMAGE, appliance: APPLIANCE, complete: false }
    ])
  })

  test('has a limit, and goes on within it', () => {
    const plan = newPlan()
    for (let i = 0; i < MAX_ANNOUNCEMENTS; i++) plan.add(imageNumber(i), undefined, true, 0)
    expect(() => plan.add(imageNumber(MAX_ANNOUNCEMENTS), undefined, true, 0)).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' })
    )
    plan.remove(imageNumber(5))
    plan.add(imageNumber(MAX_ANNOUNCEMENTS), undefined, true, 0)
    expect(plan.size).toBe(MAX_ANNOUNCEMENTS)
  })
})
