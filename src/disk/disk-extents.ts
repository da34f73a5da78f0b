/**
 * What each part of a machine's disk is: written, zeroed, or the image's, and whether the image's bytes are here.
 *
 * Only maps are looked at; nothing is read, hashed or asked for, so the answer comes at once. How much one call looks at
 * is bounded, whatever the range: the map of a trimmed 8-TiB disk, or an image of zeros, must not hold up a guest.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import { ZERO } from '../store/local-image.ts'
import type { Extent } from './block-device.ts'
import type { BaseImage } from './image-reader.ts'
import { SECTOR_ABSENT, SECTOR_BYTES, SECTOR_DATA, type SectorState } from './layer-map.ts'

/** 64 GiB of one layer; 8,192 pages of its map, some 20 µs. */
const MAX_RANGE_BYTES = 64 * 1024 ** 3
/** 512 MiB of the image; 8 pages of its index. */
const MAX_BLOCKS = 8_192

/** What is needed of a map of layers (LayerMap, or several in one). */
export interface SectorStates {
  stateAt(sector: number): SectorState
  /** Where the run of sectors of one state ends, at most `end`. */
  runEnd(sector: number, end: number): number
}

type Kind = Omit<Extent, 'lengthBytes'>

const WRITTEN: Kind = { isHole: false, isZero: false, isLocal: true }
const ZEROED: Kind = { isHole: true, isZero: true, isLocal: true }
const HERE = WRITTEN
const ELSEWHERE: Kind = { isHole: false, isZero: false, isLocal: false }

/**
 * The extents from `offset` on, at most `maxExtents`; see BlockDevice. The range must be within the disk.
 *
 * @param map - of the layers above the image; undefined where there is none
 */
export function diskExtents(
  map: SectorStates | undefined,
  image: Pick<BaseImage, 'peek'>,
  offset: number,
  lengthBytes: number,
  maxExtents: number
): Extent[] {
  const end = offset + Math.min(lengthBytes, MAX_RANGE_BYTES)
  const found = new ExtentList(maxExtents)
  if (map === undefined) {
    addImage(found, image, offset, end, MAX_BLOCKS)
    return found.extents
  }
  const lastSector = Math.ceil(end / SECTOR_BYTES)
  let blocksLeft = MAX_BLOCKS
  for (let at = offset; at < end && blocksLeft > 0; ) {
    const sector = Math.floor(at / SECTOR_BYTES)
    const state = map.stateAt(sector)
    const runEnd = Math.min(end, map.runEnd(sector, lastSector) * SECTOR_BYTES)
    if (state === SECTOR_ABSENT) {
      blocksLeft = addImage(found, image, at, runEnd, blocksLeft)
    } else if (!found.add(runEnd - at, state === SECTOR_DATA ? WRITTEN : ZEROED)) {
      break
    }
    if (found.isFull) break
    at = runEnd
  }
  return found.extents
}

/** @returns how many more blocks may be looked at; 0 ends the search */
function addImage(
  found: ExtentList,
  image: Pick<BaseImage, 'peek'>,
  offset: number,
  end: number,
  maxBlocks: number
): number {
  let blocksLeft = maxBlocks
  for (let at = offset; at < end; blocksLeft--) {
    if (blocksLeft === 0) return 0
    const block = Math.floor(at / BLOCK_SIZE_BYTES)
    const blockEnd = Math.min(end, (block + 1) * BLOCK_SIZE_BYTES)
    const slot = image.peek(block)
    if (!found.add(blockEnd - at, slot >= 0 ? HERE : slot === ZERO ? ZEROED : ELSEWHERE)) return 0
    at = blockEnd
  }
  return blocksLeft
}

/** Extents in the making; neighbours of one kind become one. */
class ExtentList {
  readonly extents: Extent[] = []
  /** What comes next has no place any more. */
  isFull = false
  readonly #maxExtents: number
  #lastKind: Kind | undefined
  #last: Extent | undefined

  constructor(maxExtents: number) {
    this.#maxExtents = maxExtents
  }

  /** @returns whether there was a place */
  add(lengthBytes: number, kind: Kind): boolean {
    if (kind === this.#lastKind) {
      this.#last!.lengthBytes += lengthBytes
      return true
    }
    if (this.extents.length === this.#maxExtents) {
      this.isFull = true
      return false
    }
    this.#lastKind = kind
    this.#last = { lengthBytes, isHole: kind.isHole, isZero: kind.isZero, isLocal: kind.isLocal }
    this.extents.push(this.#last)
    return true
  }
}
