/**
 * Where files lie on a disk, as far as the guest has read that itself: ext4's own tables, in blocks that came for it.
 *
 * What a guest reads next is mostly the rest of the file that it reads; without knowing where that ends, read-ahead fetches two blocks
 * in vain for each three that are touched. A guest reads a file's inode before the file, and the inode says where the file lies. So
 * each block that a guest touched is looked at once it is here: the partition table (MBR, GPT), the superblock, the group
 * descriptors, the inodes. Nothing is fetched for it.
 *
 * An image is hostile, and what it says here is advice: it names blocks of this image to be fetched soon, within the bounds of
 * read-ahead. Whatever is not as expected is passed over. Only extents that lie in the inode itself are followed (four: all but
 * large files in pieces); not inline data, not block maps of ext2, not META_BG.
 *
 * Layout: kernel documentation, "ext4 Data Structures and Algorithms", sections Super Block, Block Group Descriptors, Index Nodes.
 *
 * Pure. Owns: what it has learnt, which is bounded.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'

/** Of a file, around a place in it; in the order of the file behind the place, and backwards before it. */
export interface FilePlace {
  behind: number[]
  before: number[]
}

interface Extent {
  startBytes: number
  endBytes: number
}

interface Piece extends Extent {
  /** All of the file's, in its order, this one among them. */
  file: readonly Extent[]
}

interface Volume {
  startBytes: number
  blockBytes: number
  inodeBytes: number
  inodesPerGroup: number
  descriptorBytes: number
  descriptors: Extent
}

const SECTOR_BYTES = 512
const MAX_VOLUMES = 16
/** Groups of 128 MiB. */
const MAX_GROUPS = 16_384
/** Blocks that hold tables of inodes: 256 GiB of disk as mke2fs makes them. */
const MAX_TABLE_BLOCKS = 65_536
/** Blocks in which a file lies, each counted for each file in it: 16 GiB, or as many small files. */
const MAX_PIECES = 262_144
/** Of a file behind a place: 1 MiB at its beginning, and from there as much more as was passed, up to 4 MiB. */
const FIRST_BEHIND = 16
const MAX_BEHIND = 64
/** A file up to this size is wanted as a whole, whatever part of it is read first: 8 MiB. Libraries are. */
const WHOLE_FILE_BYTES = 128 * BLOCK_SIZE_BYTES
const MAX_BLOCKS_BEFORE = 256

export class FileLayout {
  readonly #sizeBytes: number
  readonly #learnt = new Set<number>()
  /** By the block where they are: where a volume may begin, and what tells where its files lie. */
  readonly #superblocks = new Map<number, number[]>()
  readonly #descriptors = new Map<number, Volume[]>()
  readonly #tables = new Map<number, { inodes: Extent; volume: Volume }[]>()
  readonly #pieces = new Map<number, Piece[]>()
  #pieceCount = 0
  #volumes = 0

  /** @param blocks - of the image */
  constructor(blocks: number) {
    this.#sizeBytes = blocks * BLOCK_SIZE_BYTES
  }

  /** Whether this block is known to tell something that was not learnt yet. */
  teaches(block: number): boolean {
    if (this.#learnt.has(block)) return false
    return block === 0 || this.#superblocks.has(block) || this.#descriptors.has(block) || this.#tables.has(block)
  }

  /** @returns blocks that teach something, as is known from now on */
  learn(block: number, content: Uint8Array): number[] {
    if (!this.teaches(block) || content.byteLength !== BLOCK_SIZE_BYTES) return []
    this.#learnt.add(block)
    const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength)
    const others: number[] = []
    // In this order: a small volume has all of it in one block.
    if (block === 0) others.push(...this.#partitions(bytes))
    for (const startBytes of this.#superblocks.get(block) ?? [])
      others.push(...this.#superblock(block, bytes, startBytes))
    for (const volume of this.#descriptors.get(block) ?? []) others.push(...this.#groups(block, bytes, volume))
    for (const { inodes, volume } of this.#tables.get(block) ?? []) this.#inodes(block, bytes, inodes, volume)
    return others.filter(other => this.teaches(other))
  }

  /** The file at this place; undefined where none is known. */
  place(block: number, inBlock: number): FilePlace | undefined {
    const atBytes = block * BLOCK_SIZE_BYTES + inBlock
    const piece = this.#pieces
      .get(block)
      ?.find(({ startBytes, endBytes }) => startBytes <= atBytes && atBytes < endBytes)
    if (piece === undefined) return undefined
    const { file } = piece
    const index = file.findIndex(({ startBytes }) => startBytes === piece.startBytes)
    const passed = [...file.slice(0, index), { ...piece, endBytes: atBytes }]
    const passedBytes = lengthOf(passed)
    const most = Math.min(MAX_BEHIND, FIRST_BEHIND + Math.ceil(passedBytes / BLOCK_SIZE_BYTES))
    const behind = blocksOf([{ ...piece, startBytes: atBytes }, ...file.slice(index + 1)], most + 1)
    const before = lengthOf(file) <= WHOLE_FILE_BYTES ? blocksOf(passed, MAX_BLOCKS_BEFORE).reverse() : []
    const isOther = (other: number) => other !== block
    return { behind: behind.filter(isOther), before: before.filter(isOther) }
  }

  /** Where volumes may begin: at the front, and where a partition does. */
  #partitions(bytes: Buffer): number[] {
    const starts = [0]
    if (bytes.readUInt16LE(510) === 0xaa55) {
      for (let entry = 446; entry < 510; entry += 16) starts.push(bytes.readUInt32LE(entry + 8))
    }
    if (bytes.toString('latin1', 512, 520) === 'EFI PART') {
      const first = Number(bytes.readBigUInt64LE(512 + 72)) * SECTOR_BYTES
      const entryBytes = bytes.readUInt32LE(512 + 84)
      const count = Math.min(MAX_VOLUMES, bytes.readUInt32LE(512 + 80))
      for (let index = 0; index < count && entryBytes >= 128; index++) {
        const entry = first + index * entryBytes
        if (entry + 40 > BLOCK_SIZE_BYTES) break
        starts.push(Number(bytes.readBigUInt64LE(entry + 32)))
      }
    }
    return [...new Set(starts)].slice(0, MAX_VOLUMES).flatMap(sector => {
      const startBytes = sector * SECTOR_BYTES
      if (startBytes + 2048 > this.#sizeBytes) return []
      return add(this.#superblocks, blockOf(startBytes + 1024), startBytes)
    })
  }

  #superblock(block: number, bytes: Buffer, startBytes: number): number[] {
    const at = startBytes + 1024 - block * BLOCK_SIZE_BYTES
    if (at + 1024 > BLOCK_SIZE_BYTES || bytes.readUInt16LE(at + 56) !== 0xef53 || this.#volumes >= MAX_VOLUMES)
      return []
    const logBytes = bytes.readUInt32LE(at + 24)
    const incompatible = bytes.readUInt32LE(at + 96)
    const blocksPerGroup = bytes.readUInt32LE(at + 32)
    const inodeBytes = bytes.readUInt16LE(at + 88)
    const descriptorBytes = (incompatible & INCOMPATIBLE.wide) !== 0 ? bytes.readUInt16LE(at + 254) : 32
    if (logBytes > 6 || blocksPerGroup === 0 || (incompatible & INCOMPATIBLE.metaGroups) !== 0) return []
    if (inodeBytes < 128 || inodeBytes > 4096 || descriptorBytes < 32 || descriptorBytes > 1024) return []
    const blockBytes = 1024 << logBytes
    const groups = Math.min(MAX_GROUPS, Math.ceil(bytes.readUInt32LE(at + 4) / blocksPerGroup))
    const first = startBytes + (bytes.readUInt32LE(at + 20) + 1) * blockBytes
    const descriptors = { startBytes: first, endBytes: first + groups * descriptorBytes }
    const inodesPerGroup = bytes.readUInt32LE(at + 40)
    if (descriptors.endBytes > this.#sizeBytes) return []
    this.#volumes++
    const volume = { startBytes, blockBytes, inodeBytes, inodesPerGroup, descriptorBytes, descriptors }
    return blocksOf([descriptors], MAX_GROUPS).flatMap(other => add(this.#descriptors, other, volume))
  }

  #groups(block: number, bytes: Buffer, volume: Volume): number[] {
    const { descriptorBytes, descriptors, blockBytes } = volume
    const others: number[] = []
    for (const at of inside(block, descriptors, descriptorBytes)) {
      const high = descriptorBytes >= 64 ? bytes.readUInt32LE(at + 40) : 0
      const table = high * 2 ** 32 + bytes.readUInt32LE(at + 8)
      const startBytes = volume.startBytes + table * blockBytes
      const endBytes = startBytes + volume.inodesPerGroup * volume.inodeBytes
      if (table === 0 || endBytes > this.#sizeBytes) continue
      for (const other of blocksOf([{ startBytes, endBytes }], MAX_TABLE_BLOCKS - this.#tables.size)) {
        others.push(...add(this.#tables, other, { inodes: { startBytes, endBytes }, volume }))
      }
    }
    return others
  }

  #inodes(block: number, bytes: Buffer, inodes: Extent, volume: Volume): void {
    for (const at of inside(block, inodes, volume.inodeBytes)) {
      const isFile = bytes.readUInt16LE(at) >> 12 === 8 && bytes.readUInt16LE(at + 26) > 0
      if (isFile && (bytes.readUInt32LE(at + 32) & EXTENTS_FLAG) !== 0) this.#file(bytes, at + 40, volume)
    }
  }

  /** Notes where a file lies, by the root of its extents. */
  #file(bytes: Buffer, root: number, { startBytes, blockBytes }: Volume): void {
    const entries = bytes.readUInt16LE(root + 2)
    const isLeaf = bytes.readUInt16LE(root) === EXTENTS_MAGIC && bytes.readUInt16LE(root + 6) === 0
    if (!isLeaf || entries > MAX_INODE_EXTENTS) return
    const file: Extent[] = []
    for (let entry = root + 12; entry < root + 12 + entries * 12; entry += 12) {
      const length = bytes.readUInt16LE(entry + 4)
      // Longer ones are those that were never written.
      if (length === 0 || length > 32_768) continue
      const first = startBytes + (bytes.readUInt16LE(entry + 6) * 2 ** 32 + bytes.readUInt32LE(entry + 8)) * blockBytes
      if (first + length * blockBytes > this.#sizeBytes) return
      file.push({ startBytes: first, endBytes: first + length * blockBytes })
    }
    for (const extent of file) {
      const piece = { ...extent, file }
      for (const other of blocksOf([extent], MAX_PIECES - this.#pieceCount)) {
        add(this.#pieces, other, piece)
        this.#pieceCount++
      }
    }
  }
}

const INCOMPATIBLE = { metaGroups: 0x10, wide: 0x80 }
const EXTENTS_FLAG = 0x80000
const EXTENTS_MAGIC = 0xf30a
const MAX_INODE_EXTENTS = 4

function lengthOf(extents: readonly Extent[]): number {
  return extents.reduce((sum, { startBytes, endBytes }) => sum + endBytes - startBytes, 0)
}

function blockOf(bytes: number): number {
  return Math.floor(bytes / BLOCK_SIZE_BYTES)
}

/** The blocks in which these lie, at most so many. */
function blocksOf(extents: readonly Extent[], most: number): number[] {
  const blocks: number[] = []
  for (const { startBytes, endBytes } of extents) {
    for (let block = blockOf(startBytes); block * BLOCK_SIZE_BYTES < endBytes && startBytes < endBytes; block++) {
      if (blocks.length >= most) return blocks
      if (blocks.at(-1) !== block) blocks.push(block)
    }
  }
  return blocks
}

/** Where, in this block, those records of a table begin that lie in it as a whole. */
function* inside(block: number, { startBytes, endBytes }: Extent, recordBytes: number): Iterable<number> {
  const blockStart = block * BLOCK_SIZE_BYTES
  const skipped = Math.max(0, Math.ceil((blockStart - startBytes) / recordBytes))
  const last = Math.min(endBytes, blockStart + BLOCK_SIZE_BYTES) - recordBytes
  for (let at = startBytes + skipped * recordBytes; at <= last; at += recordBytes) yield at - blockStart
}

/** @returns the key, as a list of blocks that now teach something */
function add<Value>(map: Map<number, Value[]>, block: number, value: Value): number[] {
  const values = map.get(block)
  if (values === undefined) map.set(block, [value])
  else values.push(value)
  return [block]
}
