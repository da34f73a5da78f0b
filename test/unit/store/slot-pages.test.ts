import { expect, test } from 'vitest'
import { INDEX_FANOUT } from '../../../src/cluster.ts'
import {
  ABSENT,
  MAX_SLOT_PAGES,
  makeSlotPage,
  SlotPages,
  slotOf,
  UNKNOWN,
  uncheckedSlot,
  ZERO
} from '../../../src/store/slot-pages.ts'
import { type SharedImage, SlotView } from '../../../src/store/slot-view.ts'

function makeView(blocks = 3 * INDEX_FANOUT) {
  const suspects: number[] = []
  const image: SharedImage = {
    ...{ id: 'image', sizeBytes: blocks * 65_536, blocks },
    ...{ usedMinutes: new Uint32Array(3), minute: new Uint32Array([9]) }
  }
  return { view: new SlotView(image, block => suspects.push(block)), image, suspects }
}

test('a view answers what its pages say, and what changes in them', () => {
  const pages = new SlotPages(3)
  const { view, image, suspects } = makeView()
  pages.onPage((page, slots) => view.add(page, slots))
  expect(view.locate(0)).toBe(UNKNOWN)
  expect(view.peek(0)).toBe(UNKNOWN)
  const slots = makeSlotPage(INDEX_FANOUT).fill(ABSENT)
  slots[1] = 77
  slots[2] = ZERO
  slots[3] = uncheckedSlot(0)
  pages.add(0, slots)
  pages.addZero(2, INDEX_FANOUT)
  expect([0, 1, 2, 3].map(block => view.locate(block))).toEqual([ABSENT, 77, ZERO, ABSENT])
  expect([0, 1, 2, 3].map(block => view.peek(block))).toEqual([ABSENT, 77, ZERO, 0])
  expect(view.locate(2 * INDEX_FANOUT)).toBe(ZERO)
  pages.set(0, 0, 5)
  expect(view.locate(0)).toBe(5)
  // A page was used when something of it was located, not when it was looked at.
  expect([...image.usedMinutes]).toEqual([9, 0, 9])
  expect(view.recheck(1)).toBe(false)
  expect(view.recheck(2)).toBe(true)
  expect(suspects).toEqual([1, 2])
})

test('who comes later is told of the pages that are here, and nobody of anything once he has ended it', () => {
  const pages = new SlotPages(3)
  pages.add(1, makeSlotPage(INDEX_FANOUT))
  const told: number[] = []
  const end = pages.onPage(page => told.push(page))
  pages.add(0, makeSlotPage(INDEX_FANOUT))
  end()
  pages.addZero(2, INDEX_FANOUT)
  expect(told).toEqual([1, 0])
})

test('a page that is given up says nothing any more to those who still have it; zero pages are everybody’s', () => {
  const pages = new SlotPages(3)
  const { view } = makeView()
  pages.onPage((page, slots) => view.add(page, slots))
  pages.add(0, makeSlotPage(INDEX_FANOUT).fill(7))
  pages.addZero(1, INDEX_FANOUT)
  pages.forget(0)
  pages.forget(1)
  expect(view.locate(5)).toBe(UNKNOWN)
  expect(view.locate(INDEX_FANOUT)).toBe(ZERO)
  pages.add(0, makeSlotPage(INDEX_FANOUT).fill(8))
  expect(view.locate(5)).toBe(8)
})

test('of too many pages the oldest goes', () => {
  const pages = new SlotPages(MAX_SLOT_PAGES + 2)
  const first = makeSlotPage(1)
  pages.add(0, first)
  for (let page = 1; page <= MAX_SLOT_PAGES; page++) pages.add(page, makeSlotPage(1))
  expect([...pages.made()]).toHaveLength(MAX_SLOT_PAGES)
  expect(pages.get(0)).toBeUndefined()
  expect(first[0]).toBe(UNKNOWN)
  expect(pages.get(1)).toBeDefined()
})

test('an entry for a slot that nobody has hashed names the slot', () => {
  for (const slot of [0, 1, 2 ** 27]) {
    expect(uncheckedSlot(slot)).toBeLessThan(UNKNOWN)
    expect(slotOf(uncheckedSlot(slot))).toBe(slot)
    expect(slotOf(slot)).toBe(slot)
  }
  for (const entry of [ZERO, ABSENT, UNKNOWN]) expect(slotOf(entry)).toBe(entry)
})
