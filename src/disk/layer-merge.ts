/**
 * Puts all that one frozen layer has into its neighbour, a piece at a time, while both go on being read.
 *
 * The smaller is put into the larger. *Down*, into the lower one: sectors that the upper one has are overwritten in the
 * lower, where nobody sees them, because whoever looks has the upper one before it. *Up*, into the upper one: only sectors
 * that it leaves open are filled in, with what one would find below it anyway. So at no moment does any reader, or any
 * crash, see anything but what it saw before; only the chain's file, later, says that one of the two is needed no more.
 *
 * Data is durable before the map points at it, as in every layer. A merge that was begun before may have ended with a sync that
 * failed, after which the cache shows what is not on the disk, and no sync writes it. So whatever the map shows already is
 * written again.
 */
import type { FrozenLayer } from './frozen-layer.ts'
import {
  type FrozenPage,
  LayerMap,
  SECTOR_ABSENT,
  SECTOR_BYTES,
  SECTOR_DATA,
  SECTOR_ZERO,
  SECTORS_PER_PAGE
} from './layer-map.ts'
import type { Sectors } from './zero-blocks.ts'

export interface MergePace {
  signal: AbortSignal
  /** Called between pieces, with what the last one copied; the next begins when it is done. */
  breathe(copiedBytes: number): Promise<void>
}

const COPY_BYTES = 256 * 1024
/** Pages of the map that are made durable with one sync: 512 MiB of disk. */
const PAGES_PER_SYNC = 64

/**
 * @param sizeBytes - of the disk
 * @param onZero - told of sectors of `into` that are zero by now and were put there: what lies there in its file is needed no more
 * @returns false if `pace.signal` fired; it can be begun again
 * @throws RowanError LAYER_CORRUPT, STORE_IO, DISK_FULL; nothing is lost
 */
export async function mergeLayers(
  from: FrozenLayer,
  into: FrozenLayer,
  direction: 'down' | 'up',
  sizeBytes: number,
  pace: MergePace,
  onZero: (zero: Sectors) => void = () => undefined
): Promise<boolean> {
  into.mapFile.writeDirectoryAgain()
  const merge = new Merge(from, into, direction, sizeBytes, pace, onZero)
  for (const page of from.mapFile.pages()) {
    if (!(await merge.takePage(page))) return false
  }
  await merge.makeDurable()
  return true
}

class Merge {
  readonly #from: FrozenLayer
  readonly #into: FrozenLayer
  readonly #direction: 'down' | 'up'
  readonly #sizeBytes: number
  readonly #pace: MergePace
  readonly #onZero: (zero: Sectors) => void
  readonly #buffer = Buffer.alloc(COPY_BYTES)
  #pages: FrozenPage[] = []

  constructor(
    from: FrozenLayer,
    into: FrozenLayer,
    direction: 'down' | 'up',
    sizeBytes: number,
    pace: MergePace,
    onZero: (zero: Sectors) => void = () => undefined
  ) {
    this.#onZero = onZero
    this.#from = from
    this.#into = into
    this.#direction = direction
    this.#sizeBytes = sizeBytes
    this.#pace = pace
  }

  async takePage(page: number): Promise<boolean> {
    const pageBytes = page * SECTORS_PER_PAGE * SECTOR_BYTES
    const sectors = Math.min(SECTORS_PER_PAGE, Math.ceil((this.#sizeBytes - pageBytes) / SECTOR_BYTES))
    const source = mapOf(this.#from, page, sectors)
    const target = mapOf(this.#into, page, sectors)
    for (let at = 0; at < sectors; ) {
      const state = source.stateAt(at)
      let end = source.runEnd(at, sectors)
      const known = target.stateAt(at)
      if (this.#direction === 'up') end = Math.min(end, target.runEnd(at, sectors))
      if (state !== SECTOR_ABSENT && (this.#direction === 'down' || known === SECTOR_ABSENT)) {
        if (state === SECTOR_DATA && !(await this.#copy(pageBytes, at, end))) return false
        target.set(at, end, state)
        if (state === SECTOR_ZERO)
          this.#onZero({ start: page * SECTORS_PER_PAGE + at, end: page * SECTORS_PER_PAGE + end })
      }
      at = end
    }
    target.markChanged(0, sectors)
    for (const { words } of target.freeze()) this.#pages.push({ number: page, words })
    if (this.#pages.length >= PAGES_PER_SYNC) await this.makeDurable()
    return !this.#pace.signal.aborted
  }

  async makeDurable(): Promise<void> {
    const pages = this.#pages
    if (pages.length === 0) return
    this.#pages = []
    await this.#into.data.sync()
    const { mapFile } = this.#into
    await mapFile.prepare(pages)
    await mapFile.write(pages)
    await mapFile.sync()
  }

  async #copy(pageBytes: number, first: number, last: number): Promise<boolean> {
    const end = Math.min(pageBytes + last * SECTOR_BYTES, this.#sizeBytes)
    for (let at = pageBytes + first * SECTOR_BYTES; at < end; at += COPY_BYTES) {
      if (this.#pace.signal.aborted) return false
      const piece = this.#buffer.subarray(0, Math.min(COPY_BYTES, end - at))
      await this.#from.data.read(piece, at)
      await this.#into.data.write(piece, at)
      await this.#pace.breathe(piece.length)
    }
    return true
  }
}

/** One page of a layer's map by itself. */
function mapOf({ mapFile }: FrozenLayer, page: number, sectors: number): LayerMap {
  const map = new LayerMap(sectors)
  map.load(0, mapFile.readPage(page))
  return map
}
