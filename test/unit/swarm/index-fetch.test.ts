import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { toHex } from '../../../src/image/hash.ts'
import type { LocalImage } from '../../../src/store/images.ts'
import { IndexFetch } from '../../../src/swarm/index-fetch.ts'
import { EAGER_PATIENCE_MS } from '../../../src/swarm/limits.ts'
import type { IndexPart, Rank } from '../../../src/swarm/messages.ts'
import { itemOf, type SchedulerEvent } from '../../../src/swarm/scheduler-types.ts'
import { ManualClock } from '../release/support/clock.ts'
import { makeImage, openStore, type Store } from './support.ts'

const FILL: Rank = 3
const REPLICA = 'replica'
const PAGES = 4

describe('an index that a replica promised to send unasked', () => {
  const image = makeImage(61, PAGES * 1024, { isZero: n => n % 1024 > 1 })
  const byHash = new Map(image.nodes.map(([hash, bytes]) => [toHex(hash), bytes]))
  let disk: Store
  let local: LocalImage
  let clock: ManualClock
  let wanted: number[]
  let accused: string[]
  let index: IndexFetch
  let isOver: boolean

  beforeEach(async () => {
    disk = await openStore()
    local = await disk.images.create(image.rootBytes)
    clock = new ManualClock()
    wanted = []
    accused = []
    isOver = false
    index = new IndexFetch({
      number: 0,
      image: local,
      driver: {
        wanted: 0,
        event: (event: SchedulerEvent) => {
          const item = event.type === 'want' ? itemOf(event.key) : undefined
          if (item?.kind === 'node') wanted.push(item.level * 1000 + item.position)
        },
        accuse: (_peer, error) => void accused.push(error.code)
      },
      clock,
      onPage() {},
      onPageFailed: (_page, error) => void (isOver || expect.fail(error.message))
    })
    await index.came(REPLICA, [part(1, 0)], [])
    index.promised(REPLICA, 4096)
    index.wantPage(2, FILL)
    expect(wanted).toEqual([])
  })
  afterEach(async () => {
    isOver = true
    index.stop(new RowanError('DISK_CLOSED', 'over'))
    await disk.close()
  })

  function part(level: number, position: number): IndexPart {
    const node = local.missingNodes(position * 1024).find(each => each.level === level)
    return { level, position, bytes: byHash.get(toHex(node!.hash!))! }
  }

  test('whoever waits for it hears of a store that fails when the replica kept it waiting for too long', async () => {
    isOver = true
    const missingNodes = local.missingNodes.bind(local)
    const waiting = index.page(3, FILL).catch((error: RowanError) => error.code)
    local.missingNodes = () => {
      throw new RowanError('STORE_IO', 'the catalog failed')
    }
    clock.advance(EAGER_PATIENCE_MS)
    local.missingNodes = missingNodes
    expect(await waiting).toBe('STORE_IO')
    expect(index.isBusy).toBe(false)
  })

  test.each([
    [0, PAGES],
    [1, 1],
    [2, 0]
  ])('brings no node of level %i at position %i, outside the image, without blame', async (level, position) => {
    const { bytes } = part(0, 0)
    await index.came(REPLICA, [{ level, position, bytes }], [])
    expect(accused).toEqual(['INDEX_INVALID'])
  })

  test('is waited for while it comes', async () => {
    const [zero, one, two] = [part(0, 0), part(0, 1), part(0, 2)]
    for (const each of [zero, one]) {
      clock.advance(1_500)
      await index.came(REPLICA, [each], [])
    }
    expect(wanted).toEqual([])
    clock.advance(1_500)
    await index.came(REPLICA, [two], [])
    clock.advance(10_000)
    expect(wanted).toEqual([])
    expect(local.missingNodes(2 * 1024)).toEqual([])
    expect(accused).toEqual([])
  })

  test.each([
    ['nothing', () => []],
    ['what is here already', (first: IndexPart) => [first]]
  ])('is asked for page by page when what comes is %s', async (_what, partsOf) => {
    const first = part(0, 0)
    await index.came(REPLICA, [first], [])
    // A peer that promised a great many.
    for (let second = 0; second < 20 && wanted.length === 0; second++) {
      clock.advance(1_000)
      await index.came(REPLICA, partsOf(first), [])
    }
    expect(wanted).toEqual([2])
  })
})
