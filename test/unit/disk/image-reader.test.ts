import { expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import { ImageReader, MAX_ATTEMPTS } from '../../../src/disk/image-reader.ts'
import { systemClock } from '../../../src/node/system.ts'
import type { ObtainedBlock, WantOptions } from '../../../src/store/block-source.ts'
import { ABSENT } from '../../../src/store/slot-pages.ts'
import { withCode } from '../image/with-code.ts'

const MISSING = ABSENT
const BYTES = new Uint8Array(BLOCK_SIZE_BYTES).fill(9)

/** A pool out of which every block is evicted before it is read. */
function fleeting(answer: (options: WantOptions | undefined) => ObtainedBlock) {
  const asked: (boolean | undefined)[] = []
  const reader = new ImageReader({
    image: {
      id: 'image',
      root: { sizeBytes: BLOCK_SIZE_BYTES },
      locate: () => MISSING,
      peek: () => MISSING,
      recheck: () => false
    },
    pool: {
      readSync: () => {
        throw new Error('nothing is there')
      },
      warm: (_slot, _offset, _length, done) => done()
    },
    source: {
      want: async (_image, _block, _priority, options) => {
        asked.push(options?.asBytes)
        return answer(options)
      }
    },
    clock: systemClock
  })
  const read = async () => {
    const target = new Uint8Array(512)
    const pending: Promise<void>[] = []
    reader.read(1024, target, 0, target.length, pending)
    await Promise.all(pending)
    return target
  }
  return { asked, read }
}

test('a block that is gone again each time before it is read is asked for as bytes', async () => {
  const { asked, read } = fleeting(options => (options?.asBytes === true ? { bytes: BYTES } : { slot: 0 }))
  const targets = await Promise.all([read(), read()])
  for (const target of targets) expect(target).toEqual(BYTES.subarray(1024, 1536))
  // Both together.
  expect(asked).toEqual([false, false, true])
})

test('a store that never lets a block be read is an I/O error, after a bounded number of attempts', async () => {
  const { asked, read } = fleeting(() => ({ slot: 0 }))
  await expect(read()).rejects.toThrow(withCode('STORE_IO'))
  expect(asked).toHaveLength(MAX_ATTEMPTS)
})
