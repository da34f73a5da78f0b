import { afterEach, expect, test, vi } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { lineLog, readBootId, systemClock, systemRandom } from '../../../src/node/system.ts'

afterEach(() => {
  vi.useRealTimers()
})

test('a log writes one line for each message, from its level up', () => {
  const lines: string[] = []
  const log = lineLog('info', line => lines.push(line))
  log.debug('nobody reads this')
  log.info('a peer joined', { peer: '12D3', rttMs: 3, nothing: undefined, path: '/a b', big: 5n })
  log.warn('it failed', { error: new RowanError('POOL_FULL', 'no room') })
  expect(lines).toHaveLength(2)
  expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}a peer joined peer=12D3 rttMs=3 path="\/a b" big=5\n$/)
  expect(lines[1]).toContain('error="[POOL_FULL] no room"')
})

test('what a peer says can neither forge a line nor steer a terminal nor fill the disk', () => {
  const lines: string[] = []
  lineLog('info', line => lines.push(line)).info('a\nb', { agent: `x\n2026 warn \u001b[2J${'y'.repeat(10_000)}` })
  expect(lines).toHaveLength(1)
  for (const character of ['\n', '\u001b']) expect(lines[0]!.slice(0, -1)).not.toContain(character)
  expect(lines[0]!.length).toBeLessThan(400)
})

test('a timer of more than 24.8 days waits that long, and can be cancelled', () => {
  vi.useFakeTimers()
  const run = vi.fn()
  const cancelled = vi.fn()
  const dayMs = 86_400_000
  systemClock.after(60 * dayMs, run)
  const timer = systemClock.after(60 * dayMs, cancelled)
  vi.advanceTimersByTime(59 * dayMs)
  expect(run).not.toHaveBeenCalled()
  timer.cancel()
  vi.advanceTimersByTime(2 * dayMs)
  expect(run).toHaveBeenCalledOnce()
  expect(cancelled).not.toHaveBeenCalled()
})

test('dice and boot id', () => {
  expect(systemRandom.bytes(16)).toHaveLength(16)
  expect(systemRandom.unit()).toBeLessThan(1)
  expect(readBootId()).toMatch(/^[0-9a-f-]{32,}$/)
  expect(readBootId()).toBe(readBootId())
})
