import { describe, expect, test } from 'vitest'
import { type Announcement, AnnouncePlan } from '../../../src/directory/announce-plan.ts'
import { Announcer } from '../../../src/directory/announcer.ts'
import { ANNOUNCEMENTS_AT_ONCE } from '../../../src/directory/limits.ts'
import { FakeClock, HOUR_MS, imageNumber, recordingLog, seeded, settled } from './support.ts'

function setUp(announce: (what: Announcement, signal: AbortSignal) => Promise<{ asked: number; kept: number }>) {
  const clock = new FakeClock()
  const plan = new AnnouncePlan({ random: seeded(3) }, { ttlMs: HOUR_MS })
  const log = recordingLog()
  const announcer = new Announcer({ plan, announce, clock, log })
  const add = (n: number) => {
    plan.add(imageNumber(n), undefined, true, clock.monotonicMs())
    announcer.wake()
  }
  return { clock, plan, log, announcer, add }
}

describe('the announcer', () => {
  test('announces three times within every time to live, for as long as it runs', async () => {
    const times: number[] = []
    const { clock, announcer, add } = setUp(async () => {
      times.push(clock.monotonicMs())
      return { asked: 20, kept: 20 }
    })
    add(1)
    await clock.advance(1000)
    expect(times).toEqual([])
    announcer.start()
    await clock.advance(10 * HOUR_MS)
    expect(times.length).toBeGreaterThanOrEqual(28)
    expect(times.length).toBeLessThanOrEqual(33)
    for (let i = 3; i < times.length; i++) expect(times[i]! - times[i - 3]!).toBeLessThan(HOUR_MS * 1.1)
    await announcer.stop()
    const count = times.length
    await clock.advance(2 * HOUR_MS)
    expect(times).toHaveLength(count)
  })

  test('does a few at a time, and all in the end', async () => {
    let running = 0
    let most = 0
    const seen = new Set<string>()
    const { clock, announcer, add } = setUp(async what => {
      most = Math.max(most, ++running)
      await settled()
      running--
      seen.add(what.image)
      return { asked: 20, kept: 20 }
    })
    announcer.start()
    for (let i = 0; i < 20; i++) add(i)
    for (let i = 0; i < 20; i++) await clock.advance(1)
    expect(seen.size).toBe(20)
    expect(most).toBe(ANNOUNCEMENTS_AT_ONCE)
    await announcer.stop()
  })

  test('a failure is logged and tried again soon', async () => {
    let attempts = 0
    const { clock, announcer, add, log } = setUp(async () => {
      if (++attempts === 1) throw new Error('no network')
      return { asked: 20, kept: 20 }
    })
    announcer.start()
    add(1)
    await clock.advance(3000)
    expect(attempts).toBe(2)
    expect(log.lines[0]?.message).toBe('an announcement failed')
    await announcer.stop()
  })

  test('stopping aborts what is under way and waits for it', async () => {
    let hasEnded = false
    const { announcer, add } = setUp(async (_what, signal) => {
      await new Promise(resolve => signal.addEventListener('abort', resolve))
      await settled()
      hasEnded = true
      return { asked: 0, kept: 0 }
    })
    announcer.start()
    add(1)
    await announcer.stop()
    expect(hasEnded).toBe(true)
  })
})
