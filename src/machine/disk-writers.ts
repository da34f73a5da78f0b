/**
 * Files that a disk is exported to: raw (sparse) and qcow2. A disk is written in order, a block at a time; blocks of zeros are
 * left out. Nothing is synced here, and nobody finds the file before its end (disk-export.ts).
 *
 * qcow2 is written by rowan itself: what `qemu-img convert` would need is a raw file of the whole disk beside it, and a
 * file that is written once, in order, without snapshots or backing, is a header and three tables.
 */
import type { FileHandle } from 'node:fs/promises'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'

export interface DiskWriter {
  /** Takes a block that is not all zeros; blocks come in ascending order. A last, short one is padded with zeros. */
  block(number: number, bytes: Uint8Array): Promise<void>
  /** Writes what makes the file whole. */
  finish(): Promise<void>
}

export class RawWriter implements DiskWriter {
  readonly #file: FileHandle
  readonly #sizeBytes: number

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file
    this.#sizeBytes = sizeBytes
  }

  async block(number: number, bytes: Uint8Array): Promise<void> {
    const position = number * BLOCK_SIZE_BYTES
    await writeAll(this.#file, bytes.subarray(0, Math.min(bytes.length, this.#sizeBytes - position)), position)
  }

  async finish(): Promise<void> {
    await this.#file.truncate(this.#sizeBytes)
  }
}

/**
 * qcow2 version 3 as in QEMU's docs/interop/qcow2.txt, with clusters of 64 KiB, a block each.
 *
 *     cluster 0      header
 *     1 …            L1 table: one entry for each 512 MiB of disk
 *     …              data clusters; behind those of 512 MiB of disk, the L2 table that names them
 *     …              refcount blocks (2 bytes a cluster, all of them 1), the refcount table
 */
export class Qcow2Writer implements DiskWriter {
  readonly #file: FileHandle
  readonly #sizeBytes: number
  readonly #l1: Buffer
  /** The next free cluster. */
  #next: number
  #l2 = { index: -1, table: Buffer.alloc(BLOCK_SIZE_BYTES) }

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file
    this.#sizeBytes = sizeBytes
    const tables = Math.ceil(sizeBytes / (L2_ENTRIES * BLOCK_SIZE_BYTES))
    this.#l1 = Buffer.alloc(Math.ceil((tables * ENTRY_BYTES) / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES)
    this.#next = 1 + this.#l1.length / BLOCK_SIZE_BYTES
  }

  async block(number: number, bytes: Uint8Array): Promise<void> {
    const index = Math.floor(number / L2_ENTRIES)
    if (index !== this.#l2.index) {
      await this.#endTable()
      this.#l2.index = index
    }
    const cluster = this.#next++
    this.#l2.table.writeBigUInt64BE(entryOf(cluster), (number % L2_ENTRIES) * ENTRY_BYTES)
    await writeAll(this.#file, bytes, cluster * BLOCK_SIZE_BYTES)
  }

  async finish(): Promise<void> {
    await this.#endTable()
    await writeAll(this.#file, this.#l1, BLOCK_SIZE_BYTES)
    const data = this.#next
    // The refcounts count themselves, too.
    let blocks = 0
    let tableClusters = 0
    for (let before = -1; before !== blocks + tableClusters; ) {
      before = blocks + tableClusters
      blocks = Math.ceil((data + before) / REFCOUNTS_PER_BLOCK)
      tableClusters = Math.ceil((blocks * ENTRY_BYTES) / BLOCK_SIZE_BYTES)
    }
    const clusters = data + blocks + tableClusters
    const table = Buffer.alloc(tableClusters * BLOCK_SIZE_BYTES)
    for (let block = 0; block < blocks; block++) {
      const counts = Buffer.alloc(BLOCK_SIZE_BYTES)
      const used = Math.min(REFCOUNTS_PER_BLOCK, clusters - block * REFCOUNTS_PER_BLOCK)
      for (let index = 0; index < used; index++) counts.writeUInt16BE(1, index * 2)
      await writeAll(this.#file, counts, (data + block) * BLOCK_SIZE_BYTES)
      table.writeBigUInt64BE(BigInt(data + block) * BigInt(BLOCK_SIZE_BYTES), block * ENTRY_BYTES)
    }
    await writeAll(this.#file, table, (data + blocks) * BLOCK_SIZE_BYTES)
    await writeAll(this.#file, this.#header(data + blocks, tableClusters), 0)
    await this.#file.truncate(clusters * BLOCK_SIZE_BYTES)
  }

  async #endTable(): Promise<void> {
    const { index, table } = this.#l2
    if (index < 0) return
    const cluster = this.#next++
    await writeAll(this.#file, table, cluster * BLOCK_SIZE_BYTES)
    this.#l1.writeBigUInt64BE(entryOf(cluster), index * ENTRY_BYTES)
    table.fill(0)
  }

  #header(refcountTable: number, refcountTableClusters: number): Buffer {
    const header = Buffer.alloc(BLOCK_SIZE_BYTES)
    header.writeUInt32BE(0x514649fb, 0) // "QFI\xfb"
    header.writeUInt32BE(3, 4) // version
    header.writeUInt32BE(CLUSTER_BITS, 20)
    // A disk is a whole number of sectors to qcow2.
    header.writeBigUInt64BE(BigInt(Math.ceil(this.#sizeBytes / 512) * 512), 24)
    header.writeUInt32BE(Math.ceil(this.#sizeBytes / (L2_ENTRIES * BLOCK_SIZE_BYTES)), 36) // entries of L1
    header.writeBigUInt64BE(BigInt(BLOCK_SIZE_BYTES), 40) // L1 table
    header.writeBigUInt64BE(BigInt(refcountTable) * BigInt(BLOCK_SIZE_BYTES), 48)
    header.writeUInt32BE(refcountTableClusters, 56)
    header.writeUInt32BE(4, 96) // refcounts of 2^4 bits
    header.writeUInt32BE(104, 100) // length of the header; behind it 8 zeros end the list of extensions
    return header
  }
}

const CLUSTER_BITS = 16
const ENTRY_BYTES = 8
const L2_ENTRIES = BLOCK_SIZE_BYTES / ENTRY_BYTES
const REFCOUNTS_PER_BLOCK = BLOCK_SIZE_BYTES / 2
/** "The refcount is exactly one", so a write need not look. */
const COPIED = 1n << 63n

function entryOf(cluster: number): bigint {
  return COPIED | (BigInt(cluster) * BigInt(BLOCK_SIZE_BYTES))
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}
