/**
 * A RowanDisk against an array of bytes: requests of any range, many at a time, while blocks come in any order and go.
 *
 * Changes that overlap take effect in the order in which they were asked for, so the end is always known.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { RecordingFiles } from '../unit/disk/support/recording-files.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'

const MAX_BYTES = 5 * BLOCK_SIZE_BYTES

type Command =
  | { do: 'write' | 'trim' | 'zero' | 'read'; at: number; length: number; fua: boolean }
  | { do: 'come'; which: number }
  | { do: 'go'; block: number }
  | { do: 'flush'; alone: boolean }
  | { do: 'settle' }

const place = fc.oneof(
  fc.nat(MAX_BYTES),
  fc.nat(4).map(block => block * BLOCK_SIZE_BYTES),
  fc.nat(640).map(n => n * 512)
)
const length = fc.oneof(
  fc.nat(2000),
  fc.nat(20).map(n => n * 512),
  fc.nat(2 * BLOCK_SIZE_BYTES)
)
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('write' as const, 'write' as const, 'trim' as const, 'zero' as const, 'read' as const),
      at: place,
      length,
      fua: fc.nat(9).map(n => n === 0)
    })
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('come' as const), which: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('go' as const), block: fc.nat(4) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('flush' as const), alone: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ do: 'settle' as const }) }
)
const history = fc.record({
  sizeBytes: fc.oneof(fc.constant(MAX_BYTES), fc.integer({ min: 1, max: MAX_BYTES })),
  logAreaBytes: fc.constantFrom(700, 4000, 100_000),
  poolIsFull: fc.boolean(),
  storeIsSlow: fc.boolean(),
  keepsSlots: fc.boolean(),
  commands: fc.array(command, { maxLength: 60, size: 'max' })
})

let folders = 0

test('reads as what was written, in the order in which it was', async () => {
  const property = fc.asyncProperty(
    history,
    async ({ sizeBytes, logAreaBytes, poolIsFull, storeIsSlow, keepsSlots, commands }) => {
      const image = new TestImage(sizeBytes)
      for (const block of [0, 2, 3]) image.missing.add(block)
      image.zeros.add(1)
      image.held = true
      image.poolIsFull = poolIsFull
      image.keepsSlots = keepsSlots
      const model = image.expected(0, new Uint8Array(sizeBytes))
      const parts = components(image)
      let ticks = 0
      if (storeIsSlow) parts.clock.monotonicMs = () => ticks++
      const disk = await RowanDisk.open(
        { ...parts, files: new RecordingFiles() },
        {
          folder: `/model-${folders++}`,
          machine: 'm',
          readOnly: false,
          create: true,
          limits: { logAreaBytes, maxChangedPages: 100, maxLoggedBytes: 2048 }
        }
      )
      let underWay: Promise<void>[] = []
      const settle = async () => {
        const all = { done: false }
        const work = Promise.all(underWay).finally(() => {
          all.done = true
        })
        work.catch(() => {})
        while (!all.done) {
          image.release()
          await new Promise(resolve => setImmediate(resolve))
        }
        await work
        underWay = []
      }
      const compare = async () => {
        await settle()
        const target = new Uint8Array(sizeBytes)
        const read = disk.read(0, target)
        if (read !== undefined) underWay.push(read)
        await settle()
        expect(Buffer.compare(target, model)).toBe(0)
      }
      let value = 0
      for (const step of commands) {
        if (step.do === 'come') image.release(step.which)
        else if (step.do === 'go') image.missing.add(step.block)
        else if (step.do === 'flush') underWay.push(Promise.resolve(disk.flush({ alone: step.alone })))
        else if (step.do === 'settle') await compare()
        else {
          const at = Math.min(step.at, sizeBytes)
          const count = Math.min(step.length, sizeBytes - at)
          const options = { fua: step.fua }
          const data = new Uint8Array(count).fill(++value)
          if (count > 0 && !disk.mayBeZero(at, count)) {
            expect(disk.extents(at, count, 999).filter(extent => extent.isZero)).toEqual([])
          }
          let done: void | Promise<void>
          if (step.do === 'read') done = disk.read(at, data)
          else if (step.do === 'write') done = disk.write(at, data, options)
          else if (step.do === 'trim') done = disk.trim(at, count, options)
          else done = disk.writeZeroes(at, count, options)
          if (step.do !== 'read') model.fill(step.do === 'write' ? value : 0, at, at + count)
          if (done !== undefined) underWay.push(done)
        }
      }
      await compare()
      await disk.close()
    }
  )
  await fc.assert(property, { seed: 31_415, numRuns: 300 })
})
