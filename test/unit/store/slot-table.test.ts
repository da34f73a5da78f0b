import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Hash, sha256, toHex } from '../../../src/image/hash.ts'
import { SlotAllocator } from '../../../src/store/slot-allocator.ts'
import { SlotTable } from '../../../src/store/slot-table.ts'
import { Suspects } from '../../../src/store/suspects.ts'

/** Hashes of which many begin alike, so that they collide in the table. */
function collidingHash(number: number): Hash {
  const hash = Uint8Array.from(sha256(Buffer.from(String(number))))
  hash.fill(0, 0, 4)
  hash[0] = number % 3
  hash[1] = number % 2 === 0 ? 0xff : 0
  return hash
}

test('a table finds what a Map finds, though the hashes collide', () => {
  const step = fc.record({ number: fc.nat(60), slot: fc.nat(9000), isSet: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), steps => {
      const table = new SlotTable()
      const model = new Map<string, number>()
      for (const { number, slot, isSet } of steps) {
        const hash = collidingHash(number)
        const known = model.get(toHex(hash))
        if (isSet && known === undefined && table.hashOf(slot) === undefined) {
          table.set(slot, hash)
          model.set(toHex(hash), slot)
        } else if (!isSet && known !== undefined) {
          table.delete(known)
          model.delete(toHex(hash))
        }
      }
      expect(table.size).toBe(model.size)
      for (let number = 0; number <= 60; number++) {
        const hash = collidingHash(number)
        const slot = model.get(toHex(hash)) ?? -1
        expect(table.find(hash)).toBe(slot)
        if (slot !== -1) expect(toHex(table.hashOf(slot)!)).toBe(toHex(hash))
      }
      expect([...table.slots()]).toEqual([...model.values()].sort((a, b) => a - b))
    }),
    { numRuns: 300, seed: 20_261_121 }
  )
})

test('a table grows, and stays fast in what it finds', () => {
  const table = new SlotTable()
  const hashes = Array.from({ length: 20_000 }, (_, number) => sha256(Buffer.from(String(number))))
  for (const [slot, hash] of hashes.entries()) table.set(slot, hash)
  for (const [slot, hash] of hashes.entries()) expect(table.find(hash)).toBe(slot)
  for (let slot = 0; slot < 20_000; slot += 2) table.delete(slot)
  for (const [slot, hash] of hashes.entries()) expect(table.find(hash)).toBe(slot % 2 === 0 ? -1 : slot)
  expect(table.find(sha256(Buffer.from('nothing')))).toBe(-1)
})

test('an allocator gives the lowest free slot, as a model does', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.constant({ kind: 'take' as const, slot: 0 }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('free' as const), slot: fc.nat(200) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('mark' as const), slot: fc.nat(100_000) }) }
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), steps => {
      const allocator = new SlotAllocator()
      const taken = new Set<number>()
      for (const { kind, slot } of steps) {
        if (kind === 'take') {
          let lowest = 0
          while (taken.has(lowest)) lowest++
          expect(allocator.take()).toBe(lowest)
          taken.add(lowest)
        } else if (kind === 'free') {
          allocator.free(slot)
          taken.delete(slot)
        } else {
          allocator.mark(slot)
          taken.add(slot)
        }
        expect(allocator.taken).toBe(taken.size)
        expect(allocator.isTaken(slot)).toBe(taken.has(slot))
      }
    }),
    { numRuns: 300, seed: 20_261_121 }
  )
})

test('suspects come back from what was written down', () => {
  const suspects = new Suspects()
  for (const slot of [0, 7, 4095, 4096, 100_000]) suspects.add(slot)
  suspects.clear(7)
  suspects.clear(8)
  const again = new Suspects()
  for (const [segment, bits] of suspects.pages()) again.load(segment, bits)
  expect([0, 7, 4095, 4096, 4097, 100_000].filter(slot => again.has(slot))).toEqual([0, 4095, 4096, 100_000])
  for (const slot of [0, 4095, 4096, 100_000]) again.clear(slot)
  expect([...again.pages()]).toEqual([])
})
