import { afterEach, expect, test } from 'vitest'
import { BlockDesk } from '../../../src/machine/block-desk.ts'
import type { FromDisk, ToDisk } from '../../../src/machine/disk-messages.ts'
import { removeFolders } from '../../tools/folders.ts'
import { waitUntil } from '../../tools/wait.ts'
import { blockOf } from '../store/tools.ts'
import { ServedDisks } from './threads/served.ts'

const SOON = { timeoutMs: 20_000 }

let disks: ServedDisks | undefined

afterEach(async () => {
  await disks?.close()
  disks = undefined
  await removeFolders()
})

/** What the disk is answered to a want. */
async function answerTo(options: { here: boolean; asBytes: boolean; block?: number }): Promise<ToDisk> {
  disks = await ServedDisks.open({ blocks: 4, here: options.here })
  const { image, store } = disks
  const desk = new BlockDesk({ image, source: disks, pool: store.pool, log: store.log })
  const said: ToDisk[] = []
  desk.open(message => said.push(message))
  const { block = 1, asBytes } = options
  desk.take({ type: 'want', want: 7, block, priority: 'demand', asBytes } satisfies FromDisk)
  const isAnswer = ({ type }: ToDisk) => type === 'came' || type === 'notCame'
  await waitUntil('the answer', () => said.some(isAnswer), SOON)
  desk.close()
  return said.find(isAnswer)!
}

test.each([true, false])(
  'a block that is wanted as bytes comes as bytes, whether it is here (%s) or is fetched',
  async here => {
    const bytes = new Uint8Array(blockOf(1))
    expect(await answerTo({ here, asBytes: true })).toEqual({ type: 'came', want: 7, obtained: { bytes } })
  }
)

test.each([true, false])('all others are told by their slot, whether they are here (%s) or not', async here => {
  const answer = await answerTo({ here, asBytes: false })
  const slot = disks!.image.locate(1)
  expect(slot).toBeGreaterThanOrEqual(0)
  expect(answer).toEqual({ type: 'came', want: 7, obtained: { slot } })
})

test('zeros have no bytes', async () => {
  const answer = await answerTo({ here: true, asBytes: true, block: 3 })
  expect(answer).toEqual({ type: 'came', want: 7, obtained: { slot: disks!.image.locate(3) } })
})
