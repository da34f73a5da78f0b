import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PageSet } from '../../../src/disk/page-set.ts'

test('agrees with a Set, and gives its numbers in order', () => {
  const change = fc.record({ page: fc.nat(99), isIn: fc.boolean() })
  const property = fc.property(fc.array(change, { maxLength: 200 }), changes => {
    const pages = new PageSet(100)
    const model = new Set<number>()
    for (const { page, isIn } of changes) {
      if (isIn) {
        pages.add(page)
        model.add(page)
      } else {
        pages.delete(page)
        model.delete(page)
      }
      expect(pages.size).toBe(model.size)
      expect(pages.has(page)).toBe(isIn)
    }
    expect([...pages]).toEqual([...model].sort((a, b) => a - b))
  })
  fc.assert(property, { seed: 4_244, numRuns: 200 })
})

test('has room for each page of the largest disk', () => {
  const pages = new PageSet(2 ** 20)
  pages.add(0)
  pages.add(31)
  pages.add(2 ** 20 - 1)
  expect([...pages]).toEqual([0, 31, 2 ** 20 - 1])
})
