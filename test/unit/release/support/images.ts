/** Disk images made by a test. */
import { hash } from 'node:crypto'
import { open, readFile, writeFile } from 'node:fs/promises'
import { BLOCK_SIZE_BYTES } from '../../../../src/cluster.ts'
import { IndexBuilder } from '../../../../src/image/index-builder.ts'

/** 64 KiB that depend on the seed alone, and are not zero. */
export function blockOf(seed: number): Buffer {
  return Buffer.alloc(BLOCK_SIZE_BYTES, hash('sha256', `block ${seed}`, 'buffer'))
}

/** A raw image: seeds of blocks in order, 0 for a zero block; `tail` bytes of one more block behind them. */
export async function writeImage(path: string, seeds: readonly number[], tailBytes = 0): Promise<void> {
  const blocks = seeds.map(seed => (seed === 0 ? Buffer.alloc(BLOCK_SIZE_BYTES) : blockOf(seed)))
  await writeFile(path, Buffer.concat([...blocks, blockOf(9999).subarray(0, tailBytes)]))
}

/** A sparse raw image with data at some blocks. */
export async function writeSparseImage(path: string, sizeBytes: number, data: Record<number, number>): Promise<void> {
  const file = await open(path, 'w')
  try {
    await file.truncate(sizeBytes)
    for (const [block, seed] of Object.entries(data)) {
      await file.write(blockOf(seed), 0, BLOCK_SIZE_BYTES, Number(block) * BLOCK_SIZE_BYTES)
    }
  } finally {
    await file.close()
  }
}

/** The id of a raw image by the shortest way, for comparison: the whole file in memory, block by block. */
export async function plainImageId(path: string): Promise<string> {
  const bytes = await readFile(path)
  const builder = new IndexBuilder(() => {})
  for (let at = 0; at < bytes.length; at += BLOCK_SIZE_BYTES) {
    const block = Buffer.alloc(BLOCK_SIZE_BYTES)
    bytes.copy(block, 0, at)
    if (block.every(byte => byte === 0)) builder.addZero()
    else builder.add(hash('sha256', block, 'buffer'))
  }
  return builder.finish(bytes.length).id
}
