import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_LEASES_PER_KEY } from '../../../src/directory/limits.ts'
import { estimateSharers, leaseHash, mergeSketches } from '../../../src/directory/sharer-sketch.ts'
import { seeded } from './support.ts'

/** The sketch of a holder that all these came to. */
function sketch(hashes: number[]) {
  const kept = hashes.toSorted((a, b) => a - b).slice(0, MAX_LEASES_PER_KEY)
  return { hashes: kept, all: kept.length === hashes.length }
}

function population(count: number, seed: number): number[] {
  const random = seeded(seed)
  return Array.from({ length: count }, () => random.unit())
}

describe('the place of a lease', () => {
  test('is in [0, 1), of 48 bits, and another one for another release', () => {
    const place = leaseHash('signer', 'p/a@v1')
    expect(place).toBe(leaseHash('signer', 'p/a@v1'))
    expect(place).toBeGreaterThanOrEqual(0)
    expect(place).toBeLessThan(1)
    expect(Number.isInteger(place * 2 ** 48)).toBe(true)
    expect(leaseHash('signer', 'p/a@v2')).not.toBe(place)
  })

  test('is spread evenly', () => {
    const places = Array.from({ length: 2000 }, (_, i) => leaseHash(`s${i}`, 'p/a@v1'))
    const below = (x: number) => places.filter(place => place < x).length
    expect(Math.abs(below(0.1) - 200)).toBeLessThan(50)
    expect(Math.abs(below(0.5) - 1000)).toBeLessThan(90)
  })
})

describe('the estimate', () => {
  test.each([0, 1, 2, 1023, 1024])('of %i sharers is exact', count => {
    expect(mergeSketches([sketch(population(count, 1))])).toEqual({ count, exact: true })
  })

  test.each([1025, 5000, 100_000])('of %i sharers is within four standard errors', count => {
    for (let seed = 1; seed <= 5; seed++) {
      const estimate = mergeSketches([sketch(population(count, seed))])
      expect(estimate.exact).toBe(false)
      expect(estimate.error).toBeCloseTo(1 / 32, 3)
      expect(Math.abs(estimate.count / count - 1)).toBeLessThan(4 * estimate.error!)
    }
  })

  test('is never below what is seen', () => {
    expect(estimateSharers([0.3, 0.6, 0.99], false).count).toBe(3)
    expect(estimateSharers([], false)).toMatchObject({ count: 0, exact: false })
    expect(estimateSharers([0], false).count).toBe(1)
  })
})

describe('merging', () => {
  test('any number of holders that heard of all say the same as one', () => {
    const holds = fc.property(fc.nat(3000), fc.integer({ min: 1, max: 20 }), fc.nat(1000), (count, holders, seed) => {
      const one = sketch(population(count, seed))
      expect(mergeSketches(Array(holders).fill(one))).toEqual(mergeSketches([one]))
    })
    fc.assert(holds, { seed: 20261121, numRuns: 60 })
  })

  test('what one holder has missed another knows', () => {
    const all = population(900, 3)
    const parts = [0, 1, 2].map(part => sketch(all.filter((_, i) => i % 3 !== part)))
    expect(mergeSketches(parts)).toEqual({ count: 900, exact: true })
  })

  test('a holder that has just come takes nothing away', () => {
    const known = sketch(population(50_000, 4))
    const { count } = mergeSketches([known, known, { hashes: [], all: true }])
    expect(Math.abs(count / 50_000 - 1)).toBeLessThan(0.12)
  })

  test('one that invents sharers is left out, one that hides them changes nothing', () => {
    const honest = sketch(population(400, 5))
    const ground = { hashes: Array.from({ length: MAX_LEASES_PER_KEY }, (_, i) => (i + 1) * 1e-9), all: false }
    const hiding = { hashes: [], all: true }
    expect(mergeSketches([honest, ground, honest, hiding, honest])).toEqual({ count: 400, exact: true })
  })
})
