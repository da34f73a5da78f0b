/**
 * The layers of a disk as if they were one map: whether the layers have a sector's data, say that it is zero, or leave
 * it to the image. A run may end before the next sector differs; who wants to know looks on from there.
 */
import type { SectorStates } from './disk-extents.ts'
import { SECTOR_ABSENT, SECTOR_DATA, SECTOR_ZERO, SECTORS_PER_PAGE, type SectorState } from './layer-map.ts'
import type { LayerStack } from './layer-stack.ts'
import { CODE_ABSENT, CODE_ZERO } from './owner-page.ts'

export class StackStates implements SectorStates {
  readonly #stack: LayerStack

  constructor(stack: LayerStack) {
    this.#stack = stack
  }

  stateAt(sector: number): SectorState {
    const { top, frozen } = this.#stack
    const state = top.map.stateAt(sector)
    if (state !== SECTOR_ABSENT || frozen === undefined) return state
    return stateOf(frozen.find(sector, sector + 1))
  }

  /** The state that all of these sectors have; undefined where they differ, or it would take more than one look. */
  commonState(start: number, end: number): SectorState | undefined {
    const { top, frozen } = this.#stack
    if (top.map.runEnd(start, end) < end) return undefined
    const state = top.map.stateAt(start)
    if (state !== SECTOR_ABSENT || frozen === undefined) return state
    const code = frozen.find(start, end)
    return frozen.end < end ? undefined : stateOf(code)
  }

  runEnd(sector: number, end: number): number {
    const { top, frozen } = this.#stack
    if (frozen === undefined || top.map.stateAt(sector) !== SECTOR_ABSENT) return top.map.runEnd(sector, end)
    // The frozen layers tell of one page at a time; the top's map is looked at no further than that, or whoever goes on from page
    // to page would have all the rest of it looked at for each: ten minutes for a disk of 8 TiB.
    const pageEnd = (Math.floor(sector / SECTORS_PER_PAGE) + 1) * SECTORS_PER_PAGE
    frozen.find(sector, top.map.runEnd(sector, Math.min(end, pageEnd)))
    return frozen.end
  }
}

function stateOf(code: number): SectorState {
  if (code === CODE_ABSENT) return SECTOR_ABSENT
  return code === CODE_ZERO ? SECTOR_ZERO : SECTOR_DATA
}
