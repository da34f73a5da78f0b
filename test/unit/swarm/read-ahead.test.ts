import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_REACH, MAX_STREAM_WINDOW, MIN_REACH, ReadAhead } from '../../../src/swarm/read-ahead.ts'

/** A disk of which nothing is here, and whatever read-ahead asks for comes at once. */
class Disk {
  readonly policy: ReadAhead
  readonly here = new Set<number>()
  /** Fetched ahead, in order. */
  readonly ahead: number[] = []

  constructor(unearnedBlocks = 10_000) {
    this.policy = new ReadAhead({ unearnedBlocks })
  }

  /** @returns whether the guest had to wait */
  touch(block: number): boolean {
    const waits = !this.here.has(block)
    this.here.add(block)
    for (const other of this.policy.touched(block, waits)) {
      if (other < 0 || this.here.has(other)) continue
      this.policy.asked(other)
      this.here.add(other)
      this.ahead.push(other)
    }
    return waits
  }

  /** @returns how many of them the guest waited for */
  touchAll(blocks: number[]): number {
    return blocks.filter(block => this.touch(block)).length
  }
}

const run = (from: number, count: number, stride = 1) =>
  Array.from({ length: count }, (_, index) => from + index * stride)

describe('ReadAhead', () => {
  test('a stream waits at its beginning only, and its window grows', () => {
    const disk = new Disk()
    expect(disk.touchAll(run(1_000_000, 300))).toBe(1)
    expect(disk.here.size).toBeLessThanOrEqual(300 + MAX_STREAM_WINDOW + MAX_REACH)
  })

  test('so does one with gaps, one with a stride, and one that goes backwards', () => {
    expect(new Disk().touchAll(run(10_000, 100, 3))).toBeLessThanOrEqual(3)
    expect(new Disk().touchAll(run(10_000, 100, 40))).toBeLessThanOrEqual(3)
    expect(new Disk().touchAll(run(50_000, 100, -1))).toBeLessThanOrEqual(3)
    expect(new Disk().touchAll(run(50_000, 100, -33))).toBeLessThanOrEqual(3)
  })

  test('several streams at a time do not disturb each other', () => {
    const disk = new Disk()
    const streams = [run(10_000, 60), run(80_000, 60, 2), run(200_000, 60)]
    const mixed = run(0, 60).flatMap(index => streams.map(stream => stream[index]!))
    expect(disk.touchAll(mixed)).toBeLessThanOrEqual(6)
  })

  test('where the guest has to wait, the neighbours come too, those behind first', () => {
    const disk = new Disk()
    disk.touch(1_003)
    expect(disk.ahead).toEqual([1_004, 1_005, 1_006, 1_007, 1_002, 1_001, 1_000])
    // All of the group once something in the area was touched before.
    disk.ahead.length = 0
    disk.here.clear()
    disk.touch(1_003)
    const first = Math.floor(1_003 / MAX_REACH) * MAX_REACH
    expect([...disk.ahead].sort((a, b) => a - b)).toEqual(run(first, MAX_REACH).filter(block => block !== 1_003))
    expect(disk.ahead[0]).toBe(1_004)
  })

  test('the reach shrinks where the guesses are poor, and grows again where they are good', () => {
    const disk = new Disk()
    for (let index = 0; index < 400; index++) disk.touch(10_000_000 + ((index * 7_919) % 100_003) * 100)
    expect(disk.policy.reach).toBe(MIN_REACH)
    disk.touchAll(run(100, 3_000))
    expect(disk.policy.reach).toBe(MAX_REACH)
  })

  test('a guest that reads at random wastes a bounded number of blocks, whatever it reads', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5_000), { maxLength: 600 }), blocks => {
        const disk = new Disk(50)
        disk.touchAll([...new Set(blocks)])
        const { touched, untouched } = disk.policy.outcome
        expect(untouched).toBeLessThanOrEqual(50 + 3 * touched)
        expect(disk.ahead).toHaveLength(touched + untouched)
      })
    )
  })
})
