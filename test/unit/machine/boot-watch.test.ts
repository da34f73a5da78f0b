import { beforeEach, describe, expect, test } from 'vitest'
import { QUIET_MS } from '../../../src/disk/boot-recorder.ts'
import type { BootProfile } from '../../../src/image/boot-profile.ts'
import { BootWatch } from '../../../src/machine/boot-watch.ts'
import { ZERO } from '../../../src/store/images.ts'
import { recordingLog } from '../swarm/support.ts'

const kept: { image: string; blocks: number[]; isFresh: boolean }[] = []
const clock = { ms: 0, monotonicMs: () => clock.ms }
const logged = recordingLog()
const profiles = {
  fails: false,
  async recorded(image: string, profile: BootProfile, { isFresh }: { isFresh: boolean }) {
    if (profiles.fails) throw new Error('the disk is on fire')
    kept.push({ image, blocks: profile.map(({ block }) => block), isFresh })
  },
  hasRecording: () => kept.length > 0
}

function watchOf(): BootWatch {
  // Block 5 is all zero.
  const image = { id: 'i', locate: (block: number) => (block === 5 ? ZERO : block) }
  return new BootWatch(image, { profiles, clock, log: logged.log }, { isFresh: true })
}

function boot(watch: BootWatch, blocks = 30): void {
  for (let block = 0; block < blocks; block++) watch.touched(block, clock.ms)
}

beforeEach(() => {
  kept.length = 0
  profiles.fails = false
  clock.ms = 1_000
})

describe('BootWatch', () => {
  test('keeps a boot once it is over, without the blocks that are all zero', async () => {
    const watch = watchOf()
    boot(watch)
    clock.ms += QUIET_MS - 1001
    await watch.tend()
    expect(kept).toEqual([])
    clock.ms += 1_001
    await watch.tend()
    await watch.tend()
    await watch.end()
    expect(kept).toHaveLength(1)
    expect(kept[0]).toMatchObject({ image: 'i', isFresh: true })
    expect(kept[0]!.blocks).toHaveLength(29)
    expect(kept[0]!.blocks).not.toContain(5)
  })

  test('keeps a boot that is cut short if there is no other', async () => {
    const first = watchOf()
    boot(first)
    await first.end()
    expect(kept).toHaveLength(1)
    const second = watchOf()
    boot(second)
    await second.end()
    expect(kept).toHaveLength(1)
  })

  test('keeps nothing of a disk that was only looked at, and goes on where nothing can be kept', async () => {
    const looked = watchOf()
    boot(looked, 5)
    await looked.end()
    profiles.fails = true
    const watch = watchOf()
    boot(watch)
    await watch.end()
    expect(kept).toEqual([])
    expect(logged.lines.at(-1)?.message).toContain('could not be kept')
  })
})
