/** Whatever a hostile disk says about its files: nothing is thrown, and what comes of it are blocks of the disk, so many at most. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FileLayout } from '../../src/swarm/file-layout.ts'
import { blockOf, DISK_BLOCKS, ext4Disk, PARTITION_BYTES, SUPERBLOCK, tableBlock } from '../tools/ext4.ts'

const SEED = 20_261_121
const whole = ext4Disk(
  new Map([
    [12, [[3208, 640]]],
    [13, [[1600, 16], [8000, 32], [1632, 16]]] // biome-ignore format: one file
  ])
)
/** Bytes that are looked at: the partition table, the superblock, the first descriptor, the two inodes. */
const TELLING = [
  [440, 1300],
  [PARTITION_BYTES + 1024, 300],
  [PARTITION_BYTES + 4096, 64],
  [PARTITION_BYTES + 64 * 4096 + 12 * 256, 512]
] as const
const edit = fc.tuple(fc.constantFrom(...TELLING), fc.nat(1300), fc.oneof(fc.nat(255), fc.constantFrom(0, 255)))

/** A copy of 64 MiB for each case would take most of the time. */
function changed<T>(use: (disk: Buffer) => T): T {
  const kept = TELLING.map(([from, length]) => Buffer.from(whole.subarray(from, from + length)))
  try {
    return use(whole)
  } finally {
    for (const [index, [from]] of TELLING.entries()) whole.set(kept[index]!, from)
  }
}

function look(layout: FileLayout, disk: Buffer): number {
  let places = 0
  for (const block of [0, SUPERBLOCK, tableBlock(12), 0]) {
    for (const other of layout.learn(block, blockOf(disk, block))) {
      expect(other).toBeGreaterThanOrEqual(0)
      expect(other).toBeLessThan(DISK_BLOCKS)
    }
  }
  for (let block = 0; block < DISK_BLOCKS; block += 7) {
    const place = layout.place(block, 32_768)
    if (place === undefined) continue
    places++
    expect(place.behind.length).toBeLessThanOrEqual(65)
    expect(place.before.length).toBeLessThanOrEqual(256)
    for (const other of [...place.behind, ...place.before]) expect(other >= 0 && other < DISK_BLOCKS).toBe(true)
  }
  return places
}

test('damaged tables harm nothing', () => {
  let [some, none] = [0, 0]
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 6 }), edits => {
      const isAny = changed(disk => {
        for (const [[from, length], at, value] of edits) disk[from + (at % length)] = value
        return look(new FileLayout(DISK_BLOCKS), disk) > 0
      })
      if (isAny) some++
      else none++
    }),
    { seed: SEED, numRuns: 2_000 }
  )
  expect(Math.min(some, none)).toBeGreaterThan(20)
})

test('any bytes harm nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4096, maxLength: 4096 }), bytes => {
      changed(disk => {
        // All over what is read, and the marks that make it be read put back.
        for (const [from, length] of TELLING) disk.set(bytes.subarray(0, length), from)
        disk.writeUInt16LE(0xaa55, 510)
        disk.writeUInt32LE(PARTITION_BYTES / 512, 446 + 8)
        disk.writeUInt16LE(0xef53, PARTITION_BYTES + 1024 + 56)
        return look(new FileLayout(DISK_BLOCKS), disk)
      })
    }),
    { seed: SEED, numRuns: 1_000 }
  )
})
