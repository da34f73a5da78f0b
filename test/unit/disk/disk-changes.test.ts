import { describe, expect, test } from 'vitest'
import { DiskChanges } from '../../../src/disk/disk-changes.ts'
import { Layer } from '../../../src/disk/layer.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO } from '../../../src/disk/layer-map.ts'
import { LayerStack } from '../../../src/disk/layer-stack.ts'
import { RecordingFiles } from './support/recording-files.ts'
import { components, TestImage } from './support/test-image.ts'

const SIZE_BYTES = 64 * 512 + 100
const { log } = components(new TestImage(0))
const turn = () => new Promise(resolve => setImmediate(resolve))
let folders = 0

/** Changes of a disk whose sectors read as 9 until they are written; a test may hold reads back. */
async function setUp() {
  const identity = { machine: 'm', layer: '0001', image: 'i', sizeBytes: SIZE_BYTES }
  const files = new RecordingFiles()
  const folder = `/changes-${folders++}/0001`
  await Layer.create(folder, identity, files)
  const top = await Layer.open({ log, bootId: 'b', files }, folder, identity)
  const held: (() => void)[] = []
  const state = { holds: false }
  const read = (offset: number, target: Uint8Array) => {
    const fill = () => {
      if (top.map.stateAt(offset / 512) === SECTOR_DATA) top.readSync(target, 0, target.length, offset)
      else target.fill(9)
    }
    if (!state.holds) return fill()
    return new Promise<void>(resolve => held.push(resolve)).then(fill)
  }
  const changes = new DiskChanges({
    sizeBytes: SIZE_BYTES,
    stack: new LayerStack('system', top, undefined),
    read,
    punch: undefined,
    leaveHoles: () => undefined,
    log
  })
  const sector = (number: number) => {
    const target = new Uint8Array(Math.min(512, SIZE_BYTES - number * 512))
    top.readSync(target, 0, target.length, number * 512)
    return target
  }
  return { changes, top, state, held, sector }
}

const bytes = (length: number, value: number) => new Uint8Array(length).fill(value)

describe('DiskChanges', () => {
  test('whole sectors are written at once, and nothing around them is read', async () => {
    const { changes, top, state, sector } = await setUp()
    state.holds = true
    expect(changes.write(512, bytes(1024, 1))).toBeUndefined()
    // The last sector is a short one, and whole all the same.
    expect(changes.write(64 * 512, bytes(100, 2))).toBeUndefined()
    expect([0, 1, 2, 3, 64].map(number => top.map.stateAt(number))).toEqual([
      SECTOR_ABSENT,
      SECTOR_DATA,
      SECTOR_DATA,
      SECTOR_ABSENT,
      SECTOR_DATA
    ])
    expect(sector(64)).toEqual(bytes(100, 2))
  })

  test('a write inside sectors keeps what is around it, as the disk has it', async () => {
    const { changes, sector } = await setUp()
    expect(changes.write(500, bytes(1000, 1))).toBeUndefined()
    expect(sector(0)).toEqual(Uint8Array.from([...bytes(500, 9), ...bytes(12, 1)]))
    expect(sector(1)).toEqual(bytes(512, 1))
    expect(sector(2)).toEqual(Uint8Array.from([...bytes(476, 1), ...bytes(36, 9)]))
  })

  test('a moment without changes comes also where there is always one that waits for the network', async () => {
    const { changes, state, held } = await setUp()
    state.holds = true
    let isOver = false
    let isHeld = false
    let written = 0
    // Two at a time, of which one is always under way: each begins inside a sector, which is nowhere near.
    const client = async (sector: number) => {
      while (!isOver && written < 1000) {
        written++
        await changes.write(sector * 512 + 1, bytes(511, 1))
      }
    }
    const clients = [client(1), client(5)]
    const holding = changes.hold(async () => {
      isHeld = true
    })
    for (let round = 0; round < 400 && !isHeld; round++) {
      held.shift()?.()
      await turn()
    }
    const wasHeld = isHeld
    isOver = true
    state.holds = false
    for (const release of held.splice(0)) release()
    await Promise.all([...clients, holding])
    expect(wasHeld).toBe(true)
  })

  test('one that waits for what is around it holds its sectors, and no others', async () => {
    const { changes, state, held, sector } = await setUp()
    state.holds = true
    const slow = changes.write(10, bytes(5, 1))
    const behind = changes.write(0, bytes(512, 2))
    expect(slow).toBeInstanceOf(Promise)
    expect(behind).toBeInstanceOf(Promise)
    expect(changes.write(512, bytes(512, 3))).toBeUndefined()
    held.shift()!()
    await Promise.all([slow, behind])
    expect(sector(0)).toEqual(bytes(512, 2))
  })

  test('zeros are a matter of the map, but for the partial sectors at their ends', async () => {
    const { changes, top, sector } = await setUp()
    expect(changes.zero(500, 3 * 512 + 12, true)).toBeUndefined()
    expect([0, 1, 2, 3, 4].map(number => top.map.stateAt(number))).toEqual([
      SECTOR_DATA,
      SECTOR_ZERO,
      SECTOR_ZERO,
      SECTOR_DATA,
      SECTOR_ABSENT
    ])
    expect(sector(0)).toEqual(Uint8Array.from([...bytes(500, 9), ...bytes(12, 0)]))
    expect(sector(3)).toEqual(Uint8Array.from([...bytes(12, 0), ...bytes(500, 9)]))
  })

  test('held back, changes wait until the work is done; what was under way is done before it begins', async () => {
    const { changes, state, held } = await setUp()
    const order: string[] = []
    state.holds = true
    const slow = Promise.resolve(changes.write(10, bytes(5, 1))).then(() => order.push('slow'))
    const finish = Promise.withResolvers<void>()
    const holding = changes.hold(async () => {
      order.push('work')
      await finish.promise
    })
    await turn()
    expect(order).toEqual([])
    // What waits for the network holds up the work, but no other change.
    expect(changes.write(2048, bytes(512, 5))).toBeUndefined()
    held.shift()!()
    await slow
    await turn()
    expect(order).toEqual(['slow', 'work'])
    const later = Promise.resolve(changes.write(1024, bytes(512, 4))).then(() => order.push('later'))
    await turn()
    expect(order).toEqual(['slow', 'work'])
    finish.resolve()
    await Promise.all([holding, later])
    expect(order).toEqual(['slow', 'work', 'later'])
  })
})
