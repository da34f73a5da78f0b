import { describe, expect, test } from 'vitest'
import { BootRecorder, MAX_RECORDING_MS, MIN_BOOT_BLOCKS, QUIET_MS } from '../../../src/disk/boot-recorder.ts'
import { MAX_PROFILE_ENTRIES } from '../../../src/image/boot-profile.ts'

const all = () => true

function touch(recorder: BootRecorder, count: number, fromMs: number): void {
  for (let index = 0; index < count; index++) recorder.touched(recorder.count * 3, fromMs + index)
}

describe('BootRecorder', () => {
  test('keeps the order of first touches, with times since the first of them', () => {
    const recorder = new BootRecorder()
    for (let index = 0; index < 20; index++) recorder.touched(100 - index, 5_000 + index * 10)
    expect(recorder.profile(all)?.slice(0, 3)).toEqual([
      { block: 100, atMs: 0 },
      { block: 99, atMs: 10 },
      { block: 98, atMs: 20 }
    ])
  })

  test('leaves out blocks that nobody has to fetch', () => {
    const recorder = new BootRecorder()
    touch(recorder, 20, 0)
    expect(recorder.profile(block => block !== 6)?.map(({ block }) => block)).not.toContain(6)
  })

  test('is over when the guest has been quiet, and not before', () => {
    const recorder = new BootRecorder()
    touch(recorder, 100, 1_000)
    const lastMs = recorder.lastTouchMs!
    expect(recorder.isOver(lastMs + QUIET_MS - 1)).toBe(false)
    expect(recorder.isOver(lastMs + QUIET_MS)).toBe(true)
  })

  test('does not take a look at the disk for a boot', () => {
    const recorder = new BootRecorder()
    touch(recorder, MIN_BOOT_BLOCKS - 1, 0)
    expect(recorder.isOver(60 * 60_000)).toBe(false)
    expect(recorder.profile(all)).toBeUndefined()
    expect(new BootRecorder().isOver(60 * 60_000)).toBe(false)
  })

  test('ends with a guest that never becomes quiet', () => {
    const recorder = new BootRecorder()
    for (let ms = 0; ms <= MAX_RECORDING_MS + 5_000; ms += 1_000) recorder.touched(ms, ms)
    expect(recorder.isOver(MAX_RECORDING_MS + 1)).toBe(true)
    expect(recorder.lastTouchMs).toBe(MAX_RECORDING_MS)
  })

  test('keeps no more than a profile may hold', () => {
    const recorder = new BootRecorder()
    touch(recorder, MAX_PROFILE_ENTRIES + 10, 0)
    expect(recorder.count).toBe(MAX_PROFILE_ENTRIES)
    expect(recorder.isOver(recorder.lastTouchMs!)).toBe(true)
  })
})
