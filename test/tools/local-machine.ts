/**
 * The disk of a machine whose image is all here: store and disk as they are, without a network or a daemon.
 *
 * The image is taken from a raw file, block by block, the first time; a later start of the same folder finds it there.
 */
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { RowanDisk, type RowanDiskSettings } from '../../src/disk/rowan-disk.ts'
import type { Clock, Log } from '../../src/environment.ts'
import { RowanError } from '../../src/errors.ts'
import { isZero } from '../../src/image/block.ts'
import { sha256 } from '../../src/image/hash.ts'
import { IndexBuilder } from '../../src/image/index-builder.ts'
import { readBootId } from '../../src/node/system.ts'
import type { BlockSource } from '../../src/store/block-source.ts'
import { Catalog } from '../../src/store/catalog.ts'
import { Images, type LocalImage } from '../../src/store/images.ts'
import { type HashedBlock, Pool } from '../../src/store/pool.ts'

const BLOCKS_PER_WRITE = 128

export interface LocalMachine {
  disk: RowanDisk
  close(): Promise<void>
}

/** A store with one image, all of it here. */
export interface LocalStore {
  catalog: Catalog
  pool: Pool
  images: Images
  image: LocalImage
  close(): Promise<void>
}

/** Nobody has what is not here. */
export const NOBODY: BlockSource = {
  want: (_image, block) =>
    Promise.reject(new RowanError('NO_REPLICA', `block ${block} is not here, and nobody is asked`))
}

/**
 * Opens the store of a folder, made from a raw image the first time.
 *
 * @param folder - holds catalog and pool
 */
export async function openLocalStore(log: Log, folder: string, rawFile: string): Promise<LocalStore> {
  await mkdir(join(folder, 'pool'), { recursive: true })
  const catalog = await Catalog.open(join(folder, 'catalog'))
  const pool = await Pool.open({ directory: join(folder, 'pool'), catalog, log }, { quotaBytes: 2 ** 43 })
  const images = new Images({ catalog, pool, log })
  const id = (await firstOf(images.list())) ?? (await takeImage(rawFile, pool, images))
  const image = await images.open(id)
  if (image === undefined) throw new RowanError('INTERNAL', `image ${id} is listed and cannot be opened`)
  const close = async () => {
    images.close()
    await pool.close()
    await catalog.close()
  }
  return { catalog, pool, images, image, close }
}

/** As a machine that is new or exists; the layers lie in `folder`. */
export function localSettings(folder: string, readOnly = false): RowanDiskSettings {
  return { folder: join(folder, 'layers'), machine: 'local', readOnly, create: true }
}

/** Opens the machine of a folder, made from a raw image the first time, in this thread. */
export async function openLocalMachine(
  components: { clock: Clock; log: Log },
  folder: string,
  rawFile: string
): Promise<LocalMachine> {
  const { clock, log } = components
  const { image, pool, ...store } = await openLocalStore(log, folder, rawFile)
  const disk = await RowanDisk.open(
    { image, pool, source: NOBODY, clock, log, bootId: readBootId() },
    localSettings(folder)
  )
  const close = async () => {
    await disk.close()
    await store.close()
  }
  return { disk, close }
}

async function takeImage(rawFile: string, pool: Pool, images: Images): Promise<string> {
  const file = await open(rawFile)
  try {
    const { size } = await file.stat()
    const writer = images.writer()
    const index = new IndexBuilder(writer.add)
    for (let at = 0; at < size; at += BLOCKS_PER_WRITE * BLOCK_SIZE_BYTES) {
      const blocks: HashedBlock[] = []
      for (
        let offset = at;
        offset < Math.min(size, at + BLOCKS_PER_WRITE * BLOCK_SIZE_BYTES);
        offset += BLOCK_SIZE_BYTES
      ) {
        const block = Buffer.alloc(BLOCK_SIZE_BYTES)
        await file.read(block, 0, BLOCK_SIZE_BYTES, offset)
        if (isZero(block)) {
          index.addZero()
        } else {
          const hash = sha256(block)
          index.add(hash)
          blocks.push({ hash, block })
        }
      }
      await pool.putMany(blocks)
      if (writer.isFull) await writer.drain()
    }
    await pool.sync()
    const { id, rootBytes } = index.finish(size)
    await writer.finish(rootBytes)
    return id
  } finally {
    await file.close()
  }
}

async function firstOf(items: AsyncIterable<string>): Promise<string | undefined> {
  for await (const item of items) return item
  return undefined
}

/** A raw image with data, zeros and repetition, the same for the same size. */
export async function writeSampleImage(path: string, sizeBytes: number): Promise<void> {
  const bytes = Buffer.alloc(sizeBytes)
  let state = 0x9e3779b9
  for (let at = 0; at + 4 <= sizeBytes; at += 4) {
    const block = Math.floor(at / BLOCK_SIZE_BYTES)
    if (block % 5 === 3) continue
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes.writeUInt32LE(block % 7 === 0 ? (at % BLOCK_SIZE_BYTES) >>> 0 : state, at)
  }
  await writeFile(path, bytes)
}
