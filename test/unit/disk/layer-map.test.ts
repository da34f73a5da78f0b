import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type FrozenPage,
  LayerMap,
  SECTOR_ABSENT,
  SECTOR_DATA,
  SECTOR_ZERO,
  SECTORS_PER_PAGE,
  type SectorState
} from '../../../src/disk/layer-map.ts'
import { RowanError } from '../../../src/errors.ts'

const TIB_SECTORS = 1024 ** 4 / 512

describe('LayerMap', () => {
  test('agrees with a plain array of states', () => {
    const sectors = 2 * SECTORS_PER_PAGE + 37
    // Around word and page edges, where mistakes live.
    const place = fc.oneof(
      fc.nat(sectors - 1),
      fc.nat(40),
      fc.nat(80).map(n => SECTORS_PER_PAGE - 40 + n)
    )
    const change = fc.tuple(place, fc.integer({ min: 1, max: 20_000 }), fc.constantFrom(0, 1, 2), fc.boolean())
    const property = fc.property(
      fc.array(change, { maxLength: 30 }),
      fc.array(place, { maxLength: 30 }),
      (changes, places) => {
        const map = new LayerMap(sectors)
        const model = new Uint8Array(sectors)
        for (const [start, count, state, freeze] of changes) {
          const end = Math.min(start + count, sectors)
          map.set(start, end, state as SectorState)
          model.fill(state, start, end)
          if (freeze) map.freeze()
          else map.thaw()
        }
        for (const sector of places) {
          expect(map.stateAt(sector)).toBe(model[sector])
          let end = sector
          while (end < sectors && model[end] === model[sector]) end++
          expect(map.runEnd(sector, sectors)).toBe(end)
          const limit = Math.min(sector + 7, sectors)
          expect(map.runEnd(sector, limit)).toBe(Math.min(end, limit))
        }
      }
    )
    fc.assert(property, { seed: 4_242, numRuns: 200 })
  })

  test('says the same, in bounded memory, where pages that did not change are put out of it', () => {
    const sectors = 9 * SECTORS_PER_PAGE
    const change = fc.record({
      page: fc.nat(8),
      at: fc.nat(SECTORS_PER_PAGE - 1),
      count: fc.integer({ min: 1, max: 2 * SECTORS_PER_PAGE }),
      state: fc.constantFrom<SectorState>(0, 1, 2),
      next: fc.constantFrom('go on', 'freeze', 'written', 'not written')
    })
    const property = fc.property(fc.array(change, { minLength: 10, maxLength: 60 }), changes => {
      const saved = new Map<number, Int32Array>()
      const readPage = (page: number) => saved.get(page)?.slice() ?? new Int32Array(1024)
      const map = new LayerMap(sectors, { readPage }, 2)
      const model = new Uint8Array(sectors)
      let frozen: FrozenPage[] = []
      for (const { page, at, count, state, next } of changes) {
        const start = page * SECTORS_PER_PAGE + at
        const end = Math.min(start + count, sectors)
        map.set(start, end, state)
        model.fill(state, start, end)
        if (next === 'freeze' && frozen.length === 0) frozen = map.freeze(3)
        if (next === 'not written') map.thaw(frozen)
        if (next === 'written') {
          for (const { number, words } of frozen) saved.set(number, words.slice())
          map.thaw()
        }
        if (next !== 'go on' && next !== 'freeze') frozen = []
        expect(map.cleanPages).toBeLessThanOrEqual(2)
        for (const sector of [0, start, end - 1, (start * 7) % sectors]) {
          expect(map.stateAt(sector)).toBe(model[sector])
          let runEnd = sector
          while (runEnd < sectors && model[runEnd] === model[sector]) runEnd++
          expect(map.runEnd(sector, sectors)).toBe(runEnd)
        }
      }
    })
    fc.assert(property, { seed: 4_243, numRuns: 200 })
  })

  test('a page that cannot be read again makes a change fail before anything has changed', () => {
    let broken = false
    const readPage = () => {
      if (broken) throw new RowanError('STORE_IO', 'no')
      const words = new Int32Array(1024)
      words[5] = 1
      return words
    }
    const map = new LayerMap(9 * SECTORS_PER_PAGE, { readPage }, 2)
    for (let page = 0; page < 9; page++) map.load(page, readPage())
    broken = true
    expect(() => map.stateAt(0)).toThrow('no')
    expect(() => map.bringIn(10, 8 * SECTORS_PER_PAGE + 5)).toThrow('no')
    // Both are here, or need not be.
    map.bringIn(7 * SECTORS_PER_PAGE + 5, 9 * SECTORS_PER_PAGE - 5)
    map.bringIn(0, 9 * SECTORS_PER_PAGE)
    broken = false
    map.bringIn(10, 8 * SECTORS_PER_PAGE + 5)
    broken = true
    map.set(10, 8 * SECTORS_PER_PAGE + 5, SECTOR_ZERO)
    expect(map.runEnd(10, map.sectors)).toBe(8 * SECTORS_PER_PAGE + 5)
  })

  test('reaches the end of an 8-TiB disk, where sector numbers do not fit 32 bits', () => {
    const map = new LayerMap(8 * TIB_SECTORS)
    const last = 8 * TIB_SECTORS - 1
    map.set(last - 10, last + 1, SECTOR_DATA)
    expect(map.stateAt(last)).toBe(SECTOR_DATA)
    expect(map.runEnd(0, last + 1)).toBe(last - 10)
    expect(map.runEnd(last - 10, last + 1)).toBe(last + 1)
    expect(map.freeze().map(page => page.number)).toEqual([map.pageCount - 1])
  })

  test('keeps no page of its own for 100 GiB that were trimmed', () => {
    const before = process.memoryUsage().arrayBuffers
    const map = new LayerMap(TIB_SECTORS / 10)
    map.set(0, map.sectors, SECTOR_ZERO)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100_000)
    expect(map.allAre(SECTOR_ZERO, 0, map.sectors)).toBe(true)
  })

  test('gives back a page that was filled bit by bit', () => {
    const map = new LayerMap(4 * SECTORS_PER_PAGE)
    for (let at = 0; at < 2 * SECTORS_PER_PAGE; at += 8) map.set(at, at + 8, SECTOR_DATA)
    const frozen = map.freeze()
    expect(frozen.map(page => page.number)).toEqual([0, 1])
    expect(frozen[0]!.words).toBe(frozen[1]!.words)
  })

  test('a frozen page stays as it was while the map goes on', () => {
    const map = new LayerMap(SECTORS_PER_PAGE)
    map.set(10, 20, SECTOR_DATA)
    const [page] = map.freeze()
    const before = page!.words.slice()
    map.set(15, 30, SECTOR_ZERO)
    expect(page!.words).toEqual(before)
    expect(map.stateAt(15)).toBe(SECTOR_ZERO)
    expect(map.changedPages).toBe(1)
    map.thaw()
    expect(map.freeze()).toHaveLength(1)
  })

  test('pages that were not written after all count as changed again', () => {
    const map = new LayerMap(3 * SECTORS_PER_PAGE)
    map.set(0, 1, SECTOR_DATA)
    const pages = map.freeze()
    expect(map.changedPages).toBe(0)
    map.thaw(pages)
    expect(map.freeze().map(page => page.number)).toEqual([0])
  })

  test('a page that was loaded is no change', () => {
    const map = new LayerMap(2 * SECTORS_PER_PAGE)
    const words = new Int32Array(1024)
    words[0] = 0b01_10_01
    map.load(1, words)
    expect([0, 1, 2, 3].map(n => map.stateAt(SECTORS_PER_PAGE + n))).toEqual([
      SECTOR_DATA,
      SECTOR_ZERO,
      SECTOR_DATA,
      SECTOR_ABSENT
    ])
    expect(map.changedPages).toBe(0)
  })
})
