import { describe, expect, test } from 'vitest'
import { FileLayout } from '../../../src/swarm/file-layout.ts'
import {
  blockOf,
  DISK_BLOCKS,
  diskBytes,
  type Ext4Options,
  ext4Disk,
  SUPERBLOCK,
  tableBlock
} from '../../tools/ext4.ts'

const at = (fsBlock: number): [block: number, inBlock: number] => {
  const bytes = diskBytes(fsBlock)
  return [Math.floor(bytes / 65_536), bytes % 65_536]
}
const run = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index)

/** Of 40 blocks of 64 KiB from fs block 3200 on, which begins in the middle of one. */
const LONG: [number, number][] = [[3208, 640]]
const IN_PIECES: [number, number][] = [
  [1600, 16],
  [8000, 32],
  [1632, 16]
]
const SMALL: [number, number][] = [[3204, 4]]
const FILES = new Map([
  [12, LONG],
  [13, IN_PIECES],
  // Of the second block of the table.
  [300, SMALL]
])

/** Learns from all that teaches something. */
function learned(options?: Ext4Options, files = FILES) {
  const disk = ext4Disk(files, options)
  const layout = new FileLayout(DISK_BLOCKS)
  const order: number[] = []
  for (const todo = [0]; todo.length > 0; ) {
    const block = todo.shift()!
    if (!layout.teaches(block)) continue
    order.push(block)
    todo.push(...layout.learn(block, blockOf(disk, block)))
  }
  return { layout, order }
}

describe('where files lie', () => {
  test.each([false, true])('is found from the partition table on (GPT: %s)', gpt => {
    const { layout, order } = learned({ gpt })
    expect(order.slice(0, 2)).toEqual([0, SUPERBLOCK])
    expect(order).toContain(tableBlock(12))
    expect(order).toHaveLength(2 + 4)
    const [block, inBlock] = at(3208)
    expect(layout.place(block, inBlock)).toEqual({ behind: run(block + 1, 16), before: [] })
  })

  test('is the rest of a file, the more of it the further it was read, and all before where it is small', () => {
    const { layout } = learned()
    const [first] = at(3208)
    const [block, inBlock] = at(3208 + 20 * 16)
    expect(layout.place(block, inBlock)).toEqual({
      behind: run(block + 1, first + 40 - block),
      before: run(first, 20).reverse()
    })
    expect(layout.place(block, inBlock)!.behind).toHaveLength(20)
  })

  test('follows a file from piece to piece', () => {
    const { layout } = learned()
    const [a, inA] = at(1600)
    const [b] = at(8000)
    const [c] = at(1632)
    expect(layout.place(a, inA)).toEqual({ behind: [b, b + 1, c], before: [] })
    expect(layout.place(...at(8016))).toEqual({ behind: [c], before: [b, a] })
  })

  test('tells files in one block apart by the place in it', () => {
    const { layout } = learned()
    const [block] = at(3204)
    expect(at(3208)[0]).toBe(block)
    expect(layout.place(...at(3205))).toEqual({ behind: [], before: [] })
    expect(layout.place(...at(3208))!.behind).not.toEqual([])
    expect(layout.place(...at(3203))).toBeUndefined()
  })

  test('is known of a file only when its inode was learnt', () => {
    const disk = ext4Disk(FILES)
    const layout = new FileLayout(DISK_BLOCKS)
    expect(layout.teaches(SUPERBLOCK)).toBe(false)
    expect(layout.learn(0, blockOf(disk, 0))).toEqual([SUPERBLOCK])
    expect(layout.teaches(0)).toBe(false)
    layout.learn(SUPERBLOCK, blockOf(disk, SUPERBLOCK))
    expect(layout.place(...at(3208))).toBeUndefined()
    layout.learn(tableBlock(12), blockOf(disk, tableBlock(12)))
    expect(layout.place(...at(3208))).toBeDefined()
    expect(layout.place(...at(3204))).toBeUndefined()
    layout.learn(tableBlock(300), blockOf(disk, tableBlock(300)))
    expect(layout.place(...at(3204))).toBeDefined()
  })

  test('is not looked for where descriptors lie in another way, nor beyond the disk, nor in what is no file', () => {
    expect(learned({ incompatible: 0xd2 }).order).toEqual([0, SUPERBLOCK])
    const outside = learned({}, new Map([[12, [[16_000, 1000]] as [number, number][]]])).layout
    expect(outside.place(...at(16_000))).toBeUndefined()
    const disk = ext4Disk(FILES)
    // The link count of a file that was removed.
    disk.writeUInt16LE(0, diskBytes(64) + 12 * 256 + 26)
    const layout = new FileLayout(DISK_BLOCKS)
    for (const block of [0, SUPERBLOCK, tableBlock(12)]) layout.learn(block, blockOf(disk, block))
    expect(layout.place(...at(3208))).toBeUndefined()
    expect(layout.place(...at(1600))).toBeDefined()
  })
})
