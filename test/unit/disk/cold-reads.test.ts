import { expect, test } from 'vitest'
import { ColdReads } from '../../../src/disk/cold-reads.ts'
import { ImageReader } from '../../../src/disk/image-reader.ts'
import type { LayerStack } from '../../../src/disk/layer-stack.ts'
import { RowanError } from '../../../src/errors.ts'
import { TestImage } from './support/test-image.ts'

test('a map that fails while a read is aside is no error of its own: the read in place will say so', async () => {
  const image = new TestImage(1024 ** 2)
  image.keepsSlots = true
  let isDamaged = false
  const map = {
    allAre: () => {
      if (isDamaged) throw new RowanError('LAYER_CORRUPT', 'a page of the map is damaged')
      return true
    }
  }
  const stack = { top: { map }, frozen: undefined } as unknown as LayerStack
  const base = new ImageReader({ image, pool: image, source: image, clock: { monotonicMs: () => 0 } })
  const cold = new ColdReads({ stack, base, image, pool: image, clock: { monotonicMs: () => 0 } })
  const read = (target: Uint8Array) => new Promise<boolean>(resolve => cold.read(4096, target, resolve))

  const target = new Uint8Array(40 * 1024)
  expect(await read(target)).toBe(true)
  expect(target).toEqual(image.expected(4096, new Uint8Array(40 * 1024)))
  const damaged = read(target)
  isDamaged = true
  expect(await damaged).toBe(false)
})
