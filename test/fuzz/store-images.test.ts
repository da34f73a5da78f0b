/**
 * What an image says of its blocks, against a model that is told the same things.
 */
import fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { type Hash, toHex } from '../../src/image/hash.ts'
import { ABSENT, UNKNOWN, ZERO } from '../../src/store/images.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { entryOf, hashOf, imageOf, openStore } from '../unit/store/tools.ts'

const SEED = 20_261_121
/** Different blocks of which the images are made, so that they share some, and have some twice. */
const BLOCKS = 30
const HASHES = Array.from({ length: BLOCKS }, (_, number) => hashOf(number))

afterEach(removeFolders)

const run = fc.oneof(
  fc.record({ zeros: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(1000, 1024, 2048)) }),
  fc.record({ data: fc.array(fc.nat(BLOCKS - 1), { minLength: 1, maxLength: 20 }) })
)
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('add node' as const), pick: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('fetch' as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('put' as const), number: fc.nat(BLOCKS - 1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('drop' as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) }
)

test('locate, counts and what is missing agree with a model', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(run, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.array(step, { maxLength: 40 }),
      async (runs, isWhole, steps) => {
        const numbers: (number | undefined)[] = runs.flatMap(part =>
          'data' in part ? part.data : Array.from<undefined>({ length: part.zeros })
        )
        const made = imageOf(numbers.map(each => (each === undefined ? 1 : HASHES[each]!)))
        const nodes = new Map(made.nodes.map(([hash, bytes]) => [toHex(hash), bytes]))
        const pages = Array.from({ length: Math.ceil(numbers.length / 1024) }, (_, page) =>
          numbers.slice(page * 1024, page * 1024 + 1024)
        )
        const inPool = new Set<number>()
        let store = await openStore(await temporaryFolder())
        let image = await (isWhole
          ? store.images.keep(made.rootBytes, made.nodes)
          : store.images.create(made.rootBytes))
        /** Pages whose every node is here: those without data need none below the first that is absent. */
        const isKnown = (page: number) => image.missingNodes(page * 1024).length === 0
        try {
          for (const action of steps) {
            if (action.kind === 'add node') {
              const missing = image.missingNodes((action.pick % pages.length) * 1024)
              if (missing[0] !== undefined) {
                const { level, position, hash } = missing[0]
                await image.addNode(level, position, nodes.get(toHex(hash as Hash))!)
              }
            } else if (action.kind === 'fetch') {
              const missing = [...image.eachMissing()]
              const block = missing[action.pick % Math.max(1, missing.length)]
              if (block !== undefined) {
                const number = numbers[block]!
                image.stored(block, (await store.pool.putMany([entryOf(number)]))[0]!)
                inPool.add(number)
              }
            } else if (action.kind === 'put') {
              await store.pool.putMany([entryOf(action.number)])
              inPool.add(action.number)
            } else if (action.kind === 'drop') {
              const number = [...inPool][action.pick % Math.max(1, inPool.size)]
              if (number === undefined) continue
              await store.pool.drop(HASHES[number]!)
              inPool.delete(number)
            } else {
              await store.close()
              store = await openStore(store.folder)
              image = (await store.images.open(made.id))!
            }
          }
          expect(image.indexComplete).toBe(pages.every((_, page) => isKnown(page)))
          const missing: number[] = []
          let here = 0
          let data = 0
          for (const [block, number] of numbers.entries()) {
            const known = isKnown(Math.floor(block / 1024))
            const slot = number === undefined ? -1 : store.pool.find(HASHES[number]!)
            const expected = !known ? UNKNOWN : number === undefined ? ZERO : inPool.has(number) ? slot : ABSENT
            expect(image.locate(block), `block ${block}`).toBe(expected)
            if (!known || number === undefined) continue
            data++
            if (inPool.has(number)) here++
            else missing.push(block)
            expect(toHex(image.hashOf(block)!)).toBe(toHex(HASHES[number]!))
          }
          expect([...image.eachMissing()]).toEqual(missing)
          expect(image.local.blocks).toBe(here)
          expect([...image.eachUnknownPage()]).toEqual([...pages.keys()].filter(page => !isKnown(page)))
          const whole = numbers.filter(each => each !== undefined).length
          expect(image.local.of).toBe(whole)
          expect(image.complete).toBe(here === whole && data === whole && pages.every((_, page) => isKnown(page)))
        } finally {
          await store.close()
        }
      }
    ),
    { numRuns: 120, seed: SEED }
  )
})
