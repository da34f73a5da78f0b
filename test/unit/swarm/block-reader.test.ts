import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../../src/node/system.ts'
import { BlockReader } from '../../../src/swarm/block-reader.ts'
import { CompressedCache } from '../../../src/swarm/compression.ts'
import { bodyOf } from '../../../src/swarm/frames.ts'
import { keepImage, makeImage, openStore, type Store } from './support.ts'

const image = makeImage(71, 4, { isZero: () => false })
let disk: Store

beforeEach(async () => {
  disk = await openStore()
  await keepImage(disk, image)
})
afterEach(() => disk.close())

test.each([true, false])(
  'what the disk gives instead of a block is not sent, with zstd accepted: %s',
  async acceptZstd => {
    const local = (await disk.images.open(image.id))!
    const cache = new CompressedCache(1024 * 1024, systemClock)
    let isRotten = false
    const pool = {
      readSync(slot: number, offset: number, target: Uint8Array) {
        disk.pool.readSync(slot, offset, target)
        if (isRotten) target[65_535]! ^= 1
      }
    }
    const reader = new BlockReader({ pool, cache, clock: systemClock })
    const sent = async (block: number) => Buffer.from(bodyOf((await reader.frame(local, block, 1, acceptZstd))!))
    expect(Buffer.compare(await sent(0), image.block(0))).toBe(0)
    // One read goes wrong, and the store reads it again.
    isRotten = true
    expect(Buffer.compare(await sent(1), image.block(1))).toBe(0)
  }
)
