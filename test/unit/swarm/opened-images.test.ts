import { describe, expect, test } from 'vitest'
import type { LocalImage } from '../../../src/store/images.ts'
import { MAX_IMAGES_PER_STREAM } from '../../../src/swarm/limits.ts'
import { OpenedImages } from '../../../src/swarm/opened-images.ts'

function imageOf(id: string, endUse: () => void = () => undefined): LocalImage {
  return { id, complete: true, use: () => endUse } as unknown as LocalImage
}

describe('images open on a stream', () => {
  test('have a handle each, which is not zero, and are bounded', () => {
    const images = new OpenedImages()
    expect(() => images.check(0)).toThrow(expect.objectContaining({ code: 'WIRE_INVALID' }))
    for (let handle = 1; handle <= MAX_IMAGES_PER_STREAM; handle++) {
      images.check(handle)
      if (handle % 2 === 0) images.open(handle, imageOf(`${handle}`), () => false)
      else images.awaits(handle, { id: `${handle}`, index: 0 })
    }
    for (const handle of [1, 2])
      expect(() => images.check(handle)).toThrow(expect.objectContaining({ code: 'WIRE_INVALID' }))
    expect(() => images.check(100)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
    images.release(1)
    images.check(100)
  })

  test('that were awaited come once, under all their handles', () => {
    const images = new OpenedImages()
    images.awaits(1, { id: 'a', index: 0 })
    images.awaits(2, { id: 'b', index: 0 })
    images.awaits(3, { id: 'a', index: 1 })
    images.awaits(4, { id: 'a', index: 1 })
    images.release(4)
    expect(images.came('a')).toEqual([
      { handle: 1, index: 0 },
      { handle: 3, index: 1 }
    ])
    expect(images.came('a')).toEqual([])
    expect(images.requested(2)).toBeUndefined()
  })

  test('are in use until they are released, one by one or all', () => {
    const images = new OpenedImages()
    const over: string[] = []
    for (const [handle, id] of ['a', 'b', 'c'].entries()) {
      const image = imageOf(id, () => over.push(id))
      images.open(handle + 1, image, () => false)
    }
    images.release(2)
    expect(over).toEqual(['b'])
    images.releaseAll()
    expect(over).toEqual(['b', 'a', 'c'])
  })
})
