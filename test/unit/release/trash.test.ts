import { afterEach, beforeEach, expect, test } from 'vitest'
import { MAX_TRASHED_IMAGES, Trash, trashCodec } from '../../../src/release/trash.ts'
import { Catalog, type Operation } from '../../../src/store/catalog.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { withCode } from '../image/with-code.ts'
import { ManualClock } from './support/clock.ts'
import { MemoryLog } from './support/log.ts'

const KEEP_MS = 30 * 60_000

let folder: string
let catalog: Catalog
let clock: ManualClock
let happened: string[]
let needed: Set<string>
/** What goes wrong at the next sweep. */
let failure: Error | undefined
/** Images that somebody opens at the last moment. */
let askedFor: Set<string>
let letsGo: boolean

beforeEach(async () => {
  folder = await temporaryFolder()
  catalog = await Catalog.open(folder)
  clock = new ManualClock()
  happened = []
  needed = new Set()
  failure = undefined
  letsGo = true
  askedFor = new Set()
})
afterEach(async () => {
  await catalog.close()
  await removeFolders()
})

function openTrash(): Promise<Trash> {
  return Trash.open(
    {
      catalog,
      images: {
        open: async () => ({ recount: async () => {}, complete: true }),
        forget: async (id: string, more: () => readonly Operation[]) => {
          if (askedFor.has(id)) return false
          await catalog.write(more())
          happened.push(`forget ${id}`)
          return true
        }
      },
      sweeper: {
        sweep: async id => {
          happened.push(`sweep ${id}`)
          if (failure !== undefined) throw failure
          return { freedBytes: 1, isDone: true }
        }
      },
      swarm: { forget: () => letsGo },
      directory: {
        announceReplica: image => happened.push(`announce ${image}`),
        withdrawReplica: image => happened.push(`withdraw ${image}`)
      },
      isNeeded: image => needed.has(image),
      clock,
      log: new MemoryLog()
    },
    { keepMs: KEEP_MS }
  )
}

const what = (image: string) => ({ image, appliance: 'p/grid', version: image })

test('an image stays for its time, then it is withdrawn, swept and forgotten', async () => {
  const trash = await openTrash()
  await trash.add([what('v1')], { announced: true })
  clock.advance(KEEP_MS - 1)
  await trash.tick()
  expect(happened).toEqual([])
  expect(trash.list()).toEqual([{ ...what('v1'), leftMs: 1 }])
  clock.advance(1)
  await trash.tick()
  expect(happened).toEqual(['withdraw v1', 'sweep v1', 'forget v1'])
  expect(trash.list()).toEqual([])
  expect((await openTrash()).list()).toEqual([])
})

test('an image that is needed again leaves the trash and stays', async () => {
  const trash = await openTrash()
  await trash.add([what('v1')], { announced: true })
  needed.add('v1')
  clock.advance(KEEP_MS)
  await trash.tick()
  expect(happened).toEqual([])
  expect(trash.list()).toEqual([])
})

test('a restart goes on with the time that is left, announces what was announced, and counts no time between', async () => {
  const trash = await openTrash()
  await trash.add([what('v1')], { announced: true })
  await trash.add([what('v2')], { announced: false })
  clock.advance(KEEP_MS / 2)
  await trash.tick()
  clock.advance(100 * KEEP_MS)
  const again = await openTrash()
  again.start()
  await expect.poll(() => happened).toEqual(['announce v1'])
  expect(again.list().map(({ leftMs }) => leftMs)).toEqual([KEEP_MS / 2, KEEP_MS / 2])
  await again.stop()
})

test.each(['the sweep fails', 'somebody waits for its blocks', 'somebody opens it'])(
  'it is tried again when %s',
  async how => {
    const trash = await openTrash()
    await trash.add([what('v1')], { announced: true })
    if (how === 'the sweep fails') failure = new Error('no')
    else if (how === 'somebody opens it') askedFor.add('v1')
    else letsGo = false
    clock.advance(KEEP_MS)
    await trash.tick()
    expect(happened).not.toContain('forget v1')
    expect((await openTrash()).list()).toHaveLength(1)
    failure = undefined
    letsGo = true
    askedFor.clear()
    await trash.tick()
    expect(happened).toContain('forget v1')
    expect(trash.list()).toEqual([])
  }
)

test('it ticks by itself', async () => {
  const trash = await openTrash()
  await trash.add([what('v1')], { announced: false })
  trash.start()
  for (let i = 0; i < 60; i++) {
    clock.advance(KEEP_MS / 30)
    await trash.tick()
  }
  expect(trash.list()).toEqual([])
  await trash.stop()
  expect(clock.waiting).toBe(0)
})

test('it is bounded', async () => {
  const trash = await openTrash()
  await trash.add(
    Array.from({ length: MAX_TRASHED_IMAGES }, (_, i) => what(`i${i}`)),
    { announced: false }
  )
  await expect(trash.add([what('one more')], { announced: false })).rejects.toThrow(withCode('LIMIT_EXCEEDED'))
  await trash.add([what('i0')], { announced: false })
})

test('an entry that cannot be read is passed over', async () => {
  await catalog.table('trash', { encode: (text: string) => Buffer.from(text), decode: String }).put('v1', '{"what":3}')
  expect((await openTrash()).list()).toEqual([])
  expect(trashCodec.decode(Buffer.from('null'))).toBeUndefined()
})
