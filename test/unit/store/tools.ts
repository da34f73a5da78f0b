/**
 * What the store's tests share: a store in a folder, blocks by number, a log that remembers, and a small full disk.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES } from '../../../src/cluster.ts'
import type { Log } from '../../../src/environment.ts'
import { type Hash, sha256 } from '../../../src/image/hash.ts'
import { IndexBuilder } from '../../../src/image/index-builder.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { Images } from '../../../src/store/images.ts'
import { Pool, type PoolSettings } from '../../../src/store/pool.ts'

export interface RecordingLog extends Log {
  readonly lines: string[]
}

export function recordingLog(): RecordingLog {
  const lines: string[] = []
  const write = (level: string) => (message: string) => {
    lines.push(`${level} ${message}`)
  }
  return { lines, debug: write('debug'), info: write('info'), warn: write('warn') }
}

export interface TestStore {
  folder: string
  catalog: Catalog
  pool: Pool
  images: Images
  log: RecordingLog
  close(): Promise<void>
}

export async function openStore(folder: string, settings: Partial<PoolSettings> = {}): Promise<TestStore> {
  const log = recordingLog()
  const catalog = await Catalog.open(join(folder, 'catalog'))
  let pool: Pool
  try {
    pool = await Pool.open(
      { directory: join(folder, 'pool'), catalog, log },
      { quotaBytes: 2 ** 40, minFreeBytes: 0, ...settings }
    )
  } catch (error) {
    await catalog.close()
    throw error
  }
  const images = new Images({ catalog, pool, log })
  const close = async () => {
    images.close()
    await pool.close()
    await catalog.close()
  }
  return { folder, catalog, pool, images, log, close }
}

/** The store as it would be found if its process died now: its files, copied to `folder`. */
export async function copyAsAfterCrash(store: TestStore, folder: string): Promise<void> {
  await cp(store.folder, folder, { recursive: true })
}

const PATTERN = Buffer.alloc(BLOCK_SIZE_BYTES, 'rowan ')

/** Block number `number`: 64 KiB, different for each number. */
export function blockOf(number: number): Buffer {
  const block = Buffer.from(PATTERN)
  block.writeDoubleLE(number + 0.5, 0)
  block.writeDoubleLE(number + 0.5, BLOCK_SIZE_BYTES - 8)
  return block
}

export function hashOf(number: number): Hash {
  return sha256(blockOf(number))
}

export function entryOf(number: number): { hash: Hash; block: Buffer } {
  const block = blockOf(number)
  return { hash: sha256(block), block }
}

export interface TestImage {
  id: string
  rootBytes: Uint8Array
  nodes: [Hash, Uint8Array][]
  sizeBytes: number
}

/** An image whose blocks are given by their hashes; a number stands for so many zero blocks. */
export function imageOf(parts: readonly (Hash | number)[]): TestImage {
  const nodes: [Hash, Uint8Array][] = []
  const builder = new IndexBuilder((hash, bytes) => nodes.push([hash, bytes]))
  for (const part of parts) {
    if (typeof part === 'number') builder.addZero(part)
    else builder.add(part)
  }
  const sizeBytes = builder.blocks * BLOCK_SIZE_BYTES
  const { id, rootBytes } = builder.finish(sizeBytes)
  return { id, rootBytes, nodes, sizeBytes }
}

/** Whether a test may mount a file system: root, and not in a container that forbids it. */
export const canMount = (() => {
  const folder = mkdtempSync(join(tmpdir(), 'rw-mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'ignore' })
    execFileSync('umount', [folder], { stdio: 'ignore' })
    return true
  } catch {
    // Not permitted, or no such program: the tests that need it say so in their titles.
    return false
  } finally {
    rmdirSync(folder)
  }
})()

const mounted = new Set<string>()

/** A disk of `sizeMb`, in memory. */
export function mountSmallDisk(sizeMb: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'rw-disk-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMb}m`, 'tmpfs', folder])
  mounted.add(folder)
  return folder
}

/** For afterEach. */
export function unmountSmallDisks(): void {
  for (const folder of mounted) {
    execFileSync('umount', ['--lazy', folder])
    rmdirSync(folder)
  }
  mounted.clear()
}
